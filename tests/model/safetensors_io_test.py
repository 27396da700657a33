"""Files are what the safetensors library reads and writes, and what is damaged is named."""

import json
import resource

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from libra_jax.model import safetensors_io
from libra_jax.model.safetensors_io import Reader, Writer

ARRAYS = {"first": np.arange(6, dtype=np.float32).reshape(2, 3), "second": np.arange(4, dtype=np.float16),
          "third": np.arange(10).astype(ml_dtypes.bfloat16)}


@pytest.fixture
def file(tmp_path):
    """A file of ARRAYS that the library wrote."""
    safetensors.numpy.save_file(ARRAYS, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def split(file):
    """(header as a dict, data) of a file."""
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:8 + length]), raw[8 + length:]


def join(file, head, data):
    head = json.dumps(head).encode()
    file.write_bytes(len(head).to_bytes(8, "little") + head + data)


def test_reads_any_piece_of_what_the_library_wrote(file):
    with Reader(file.parent) as files:
        assert files.tensors.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            tensor = files.tensors[name]
            assert (tensor.shape, tensor.dtype) == (array.shape, array.dtype)
            np.testing.assert_array_equal(files.read(tensor, 1, array.size - 2), array.reshape(-1)[1:-1])


def test_the_library_reads_what_was_written_in_pieces(tmp_path):
    array = np.arange(24).astype(ml_dtypes.bfloat16)
    with Writer(tmp_path / "x.safetensors", [("a", (2, 3)), ("b", (24,))], array.dtype) as out:
        out.write("b", 20, array[20:])
        out.write("a", 0, array[:6])
        assert not (tmp_path / "x.safetensors").exists()
        out.write("b", 0, array[:20])
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    found = safetensors.numpy.load_file(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(found["a"], array[:6].reshape(2, 3))
    np.testing.assert_array_equal(found["b"], array)
    with safetensors.safe_open(tmp_path / "x.safetensors", framework="numpy") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_a_file_cut_off_anywhere_is_told_with_the_tensor_that_is_not_whole(file):
    raw = file.read_bytes()
    whole = {name: tensor.offset + ARRAYS[name].nbytes for name, tensor in safetensors_io.header(file).items()}
    last = max(whole, key=whole.get)
    for length in range(len(raw)):
        file.write_bytes(raw[:length])
        with pytest.raises(ValueError, match="download or copy it again") as error:
            safetensors_io.header(file)
        assert str(file) in str(error.value)
    assert f"tensor {last!r} of shape {ARRAYS[last].shape} ends at byte {len(raw)}, found {len(raw) - 1} bytes" in str(
        error.value)
    file.write_bytes(raw + b"x")
    with pytest.raises(ValueError, match=f"{len(raw) + 1} bytes, expected {len(raw)}"):
        safetensors_io.header(file)


@pytest.mark.parametrize("change, message", [
    (lambda head: head["second"].update(data_offsets=[0, 7]), r"'second' has 7 bytes, expected 8 for shape \(4,\) in"),
    (lambda head: head["second"].update(shape=[5]), r"'second' has 8 bytes, expected 10 for shape \(5,\) in F16"),
    (lambda head: head["second"].update(shape=[-4]), r"damaged \(tensor 'second': shape \(-4,\)"),
    (lambda head: head["second"].pop("shape"), r"header of \d+ bytes is damaged \('shape'\)"),
    (lambda head: head.update(second=3), "is damaged"),
])
def test_a_damaged_header_is_told(file, change, message):
    head, data = split(file)
    change(head)
    join(file, head, data)
    with pytest.raises(ValueError, match=message):
        safetensors_io.header(file)


def test_a_dtype_that_is_not_read_is_told_only_where_it_is_asked_for(file):
    head, data = split(file)
    head["second"]["dtype"] = "F8_E5M2"
    join(file, head, data)
    tensors = safetensors_io.header(file)
    assert tensors["first"].dtype == np.float32
    with pytest.raises(ValueError, match=r"model\.safetensors: tensor 'second' has dtype F8_E5M2, expected one of F64"):
        tensors["second"].dtype  # noqa: B018


def test_an_index_that_does_not_fit_its_shards_is_told(file):
    index = file.parent / safetensors_io.INDEX
    for text, kind, message in (
        ("{", ValueError, r"index\.json: not a readable index"),
        ('{"weight_map": ["first"]}', ValueError, "not a map"),
        ('{"weight_map": {"fourth": "model.safetensors"}}', ValueError, "'fourth' is missing, which model.safetensors"),
        ('{"weight_map": {"first": "b.safetensors"}}', FileNotFoundError, r"b\.safetensors: a shard .*tensor 'first'"),
    ):
        index.write_text(text)
        with pytest.raises(kind, match=message):
            Reader(file.parent)


def test_a_file_that_shrinks_while_it_is_read_is_told(file):
    with Reader(file.parent) as files:
        tensor = max(files.tensors.values(), key=lambda tensor: tensor.offset)
        with file.open("r+b") as stream:
            stream.truncate(tensor.offset + 1)
        with pytest.raises(ValueError, match=f"cut off in tensor {tensor.name!r}"):
            files.read(tensor, 0, 2)


def test_a_full_disk_leaves_no_file(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"bytes of tensors to write; make room.*x\.safetensors"):
            with Writer(tmp_path / "x.safetensors", [("a", (9000,))], np.dtype(np.float32)) as out:
                out.write("a", 0, np.zeros(9000, np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
