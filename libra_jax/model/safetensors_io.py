"""Files in safetensors format, read and written in pieces, so that no tensor needs to be in memory as a whole.

The format: 8 bytes (the length of the header, little-endian), the header (JSON: for each tensor dtype, shape and its
first and last byte in the data), then the data, row-major and without gaps. Plain reads instead of mapped memory:
mapped pages count as the process's own and stay until the file is closed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence

import ml_dtypes
import numpy as np

DTYPES = {"F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
          "BF16": np.dtype(ml_dtypes.bfloat16)}  # what the format calls them
INDEX = "model.safetensors.index.json"
_AGAIN = "download or copy it again"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """Where one tensor lies: `code` is the format's word for its dtype, `offset` its first byte in the file."""

    file: pathlib.Path
    name: str
    code: str
    shape: tuple[int, ...]
    offset: int

    @property
    def dtype(self) -> np.dtype:
        """Its dtype. ValueError for one that is not read (integers, 8-bit floats)."""
        if self.code not in DTYPES:
            raise ValueError(f"{self.file}: tensor {self.name!r} has dtype {self.code}, expected one of "
                             f"{', '.join(DTYPES)}; quantized weights need converting to bfloat16 first")
        return DTYPES[self.code]


def header(file: pathlib.Path) -> dict[str, Tensor]:
    """The tensors of a file, in the order of its header; the file's size is checked against it, the data is not read.

    ValueError for a damaged header or a file that is cut off (naming the first tensor that is not whole).
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"{file}: not a readable safetensors file: {size} bytes, of which the first 8 should tell "
                             f"the length of the header that follows, and tell {length}; {_AGAIN}")
        try:
            entries = json.loads(stream.read(length))
            entries.pop("__metadata__", None)
            found = {name: _tensor(file, name, entry, 8 + length) for name, entry in entries.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{file}: not a readable safetensors file: its header of {length} bytes is damaged "
                             f"({error}); {_AGAIN}") from None
    end = 8 + length
    for tensor, last in sorted(found.values(), key=lambda pair: pair[1]):
        if tensor.code in DTYPES and last - tensor.offset != math.prod(tensor.shape) * tensor.dtype.itemsize:
            raise ValueError(f"{file}: tensor {tensor.name!r} has {last - tensor.offset} bytes, expected "
                             f"{math.prod(tensor.shape) * tensor.dtype.itemsize} for shape {tensor.shape} in "
                             f"{tensor.code}; {_AGAIN}")
        if last > size:
            raise ValueError(f"{file}: cut off: tensor {tensor.name!r} of shape {tensor.shape} ends at byte {last}, "
                             f"found {size} bytes; {_AGAIN}")
        end = max(end, last)
    if end != size:
        raise ValueError(f"{file}: {size} bytes, expected {end} from its header; {_AGAIN}")
    return {name: tensor for name, (tensor, _) in found.items()}


def _tensor(file: pathlib.Path, name: str, entry: dict, data: int) -> tuple[Tensor, int]:
    """(a tensor, its end in the file) from its entry in the header."""
    first, last = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(isinstance(number, int) and number >= 0 for number in (first, last, *shape)):
        raise ValueError(f"tensor {name!r}: shape {shape}, bytes {first} to {last}")
    return Tensor(file=file, name=name, code=str(entry["dtype"]), shape=shape, offset=data + first), data + last


class Reader:
    """The tensors of a checkpoint folder (one file, or an index and its shards) by name. A context manager.

    All headers are read at once, so that what is missing or cut off is found before hours are spent.
    """

    def __init__(self, path: pathlib.Path):
        """FileNotFoundError for a missing file, ValueError for a damaged one, each naming it."""
        self.tensors: dict[str, Tensor] = {}
        self._open: dict[pathlib.Path, int] = {}
        if (path / INDEX).is_file():
            self.source = path / INDEX
            names = _weight_map(self.source)
            headers = {}
            for name, file in names.items():
                if file not in headers:
                    if not (path / file).is_file():
                        raise FileNotFoundError(f"{path / file}: a shard that {INDEX} names is missing, with tensor "
                                                f"{name!r} in it; download or copy it too")
                    headers[file] = header(path / file)
                if name not in headers[file]:
                    raise ValueError(f"{path / file}: tensor {name!r} is missing, which {INDEX} says lies here; the "
                                     f"files do not belong together: {_AGAIN}")
                self.tensors[name] = headers[file][name]
        else:
            files = [path / "model.safetensors"] if (path / "model.safetensors").is_file() else sorted(
                path.glob("*.safetensors"))
            if len(files) != 1:
                raise FileNotFoundError(f"{path}: expected model.safetensors, or {INDEX} and its shards; found "
                                        f"{[f.name for f in files] or 'no *.safetensors'}; checkpoints in .bin need "
                                        "converting with transformers' save_pretrained first")
            self.source = files[0]
            self.tensors = header(files[0])

    def read(self, tensor: Tensor, start: int, count: int) -> np.ndarray:
        """The `count` elements of a tensor from element `start` on, as a flat array of its own.

        ValueError when the file has become shorter than it was.
        """
        if tensor.file not in self._open:
            self._open[tensor.file] = os.open(tensor.file, os.O_RDONLY)
        array = np.empty(count, tensor.dtype)
        rest = array.view(np.uint8).data
        offset = tensor.offset + start * array.itemsize
        while rest:
            got = os.preadv(self._open[tensor.file], [rest], offset)
            if not got:
                raise ValueError(f"{tensor.file}: cut off in tensor {tensor.name!r} of shape {tensor.shape}: ends at "
                                 f"byte {offset}, {len(rest)} more expected; {_AGAIN}")
            rest, offset = rest[got:], offset + got
        return array

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


def _weight_map(index: pathlib.Path) -> dict[str, str]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
            raise TypeError("weight_map is not a map from tensors to files")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{index}: not a readable index ({error}), expected "
                         f'{{"weight_map": {{tensor: file}}}}; {_AGAIN}') from None
    return names


class Writer:
    """One file of tensors, which are written in pieces in any order. A context manager.

    The file has its name only when it is whole: it is written as `<file>.partial`, and renamed on leaving without an
    error. OSError (a full disk) names the file and how far it came; nothing is left then.
    """

    def __init__(self, file: pathlib.Path, tensors: Sequence[tuple[str, tuple[int, ...]]], dtype: np.dtype):
        self.file, self.dtype = file, dtype
        self._partial = file.with_name(file.name + ".partial")
        code = next(code for code, known in DTYPES.items() if known == dtype)
        entries: dict[str, dict] = {"__metadata__": {"format": "pt"}}
        begin: dict[str, int] = {}
        end = 0
        for name, shape in tensors:
            begin[name], end = end, end + math.prod(shape) * dtype.itemsize
            entries[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin[name], end]}
        head = json.dumps(entries, separators=(",", ":")).encode()
        head += b" " * (-len(head) % 8)  # the data begins at a multiple of 8
        self._offsets = {name: 8 + len(head) + first for name, first in begin.items()}
        self.num_bytes = end
        self._out = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self._put(len(head).to_bytes(8, "little") + head, 0)

    def write(self, name: str, start: int, array: np.ndarray) -> None:
        """Writes elements of a tensor from element `start` on; `array` is contiguous and of this file's dtype."""
        self._put(array.reshape(-1).view(np.uint8).data, self._offsets[name] + start * self.dtype.itemsize)

    def _put(self, data: bytes | memoryview, offset: int) -> None:
        rest = memoryview(data)
        try:
            while rest:
                done = os.pwrite(self._out, rest, offset)
                rest, offset = rest[done:], offset + done
        except OSError as error:
            raise self._failed(error, offset) from error

    def _failed(self, error: OSError, offset: int) -> OSError:
        return OSError(error.errno, f"{error.strerror} at byte {offset}, {self.num_bytes} bytes of tensors to write; "
                       "make room and start again", str(self.file))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                os.fsync(self._out)  # some file systems say only now that they are full
                self._partial.replace(self.file)
        except OSError as error:
            raise self._failed(error, self.num_bytes) from error
        finally:
            os.close(self._out)
            self._partial.unlink(missing_ok=True)
