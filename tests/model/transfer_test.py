"""A parameter that travels in blocks is the same as one that travels whole, on every mesh, in both directions."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from libra_jax.model import transfer
from libra_jax.model.transfer import Layout
from libra_jax.parallel import mesh as meshes
from libra_jax.parallel import topologies

MESH = meshes.make(meshes.MeshConfig(data=2, fsdp=2, tensor=2))
CASES = {
    "query": (Layout(shape=(6, 8, 4, 2), stacked=True, inputs=1), PartitionSpec(None, "fsdp", "tensor")),
    "output": (Layout(shape=(3, 4, 2, 12), stacked=True, inputs=2), PartitionSpec(None, "tensor", None, "fsdp")),
    "layers": (Layout(shape=(4, 6, 10), stacked=True, inputs=1), PartitionSpec("data", "fsdp", "tensor")),
    "head": (Layout(shape=(2, 4, 2, 4), stacked=True, inputs=1), PartitionSpec(None, None, None, "tensor")),
    "scale": (Layout(shape=(5, 16), stacked=True), PartitionSpec()),
    "embedding": (Layout(shape=(20, 6), stacked=False), PartitionSpec("tensor", "fsdp")),
    "unembedding": (Layout(shape=(6, 20), stacked=False, inputs=1), PartitionSpec("fsdp", "tensor")),
    "one device": (Layout(shape=(3, 8, 10), stacked=True, inputs=1), None),
}


def example(name, dtype):
    """(layout, sharding, ours, file [layers, units, elements of a unit]) of integers that bfloat16 holds."""
    layout, spec = CASES[name]
    sharding = SingleDeviceSharding(jax.devices()[3]) if spec is None else NamedSharding(MESH, spec)
    ours = np.random.default_rng(0).integers(-128, 128, layout.shape).astype(dtype)
    layers = ours if layout.stacked else ours[None]
    matrix = layers.reshape(layout.num_layers, np.prod(layers.shape[1:1 + layout.inputs], dtype=int), -1)
    file = matrix.swapaxes(1, 2) if layout.inputs else layers  # a torch Linear is [out, in]
    return layout, sharding, ours, np.ascontiguousarray(file).reshape(layout.num_layers, -1, layout.unit)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("block_bytes", [1, 150, 2**20])
def test_in_blocks_is_as_whole(name, block_bytes):
    layout, sharding, ours, file = example(name, jnp.bfloat16)
    reads = np.zeros(file.shape[:2], int)

    def read(layer, start, stop):
        reads[layer, start:stop] += 1
        return file[layer, start:stop].reshape(-1)

    array = transfer.load(layout, sharding, np.dtype(np.float32), read, staged=file.dtype, block_bytes=block_bytes)
    assert array.sharding.is_equivalent_to(sharding, array.ndim) and array.dtype == np.float32
    np.testing.assert_array_equal(array, ours.astype(np.float32))
    assert (reads == 1).all()  # devices that hold the same, or other columns of the same rows, share one read
    array = array.astype(jnp.bfloat16)
    for layer in range(layout.num_layers):
        found = np.zeros_like(file[layer])
        for unit, units in transfer.fetch(layout, array, layer, np.dtype(np.float32), block_bytes=block_bytes):
            assert units.nbytes <= max(block_bytes, 4 * layout.unit * 4)  # a unit of each of four shards at least
            found[unit:unit + len(units)] = units.reshape(len(units), -1)
        np.testing.assert_array_equal(found, file[layer])


def test_blocks_keep_every_bit_of_their_own_dtype_and_round_into_another():
    layout, sharding, _, _ = example("query", np.float32)
    bits = np.random.default_rng(0).integers(0, 2**16, layout.shape, dtype=np.uint16)
    for dtype in (jnp.bfloat16.dtype, np.dtype(np.float16)):
        file = np.ascontiguousarray(layout.to_file(bits.view(dtype))).reshape(layout.num_layers, -1, layout.unit)
        array = transfer.load(layout, sharding, dtype, lambda layer, start, stop, file=file: file[layer, start:stop],
                              staged=dtype, block_bytes=64)
        np.testing.assert_array_equal(np.asarray(array).view(np.uint16), bits)  # not-a-numbers included
        found = np.concatenate([units for _, units in transfer.fetch(layout, array, 2, dtype)])
        np.testing.assert_array_equal(found.view(np.uint16).reshape(-1), file[2].view(np.uint16).reshape(-1))
    exact = np.random.default_rng(0).normal(size=layout.shape).astype(np.float32)
    fetched = transfer.fetch(layout, jax.device_put(exact, sharding), 5, jnp.bfloat16.dtype)
    np.testing.assert_array_equal(np.concatenate([units for _, units in fetched]),
                                  layout.to_file(exact.astype(jnp.bfloat16))[5])


def test_an_array_on_the_host_is_fetched_like_one_on_devices():
    for name in ("query", "unembedding"):
        layout, _, ours, file = example(name, np.float32)
        found = [units for _, units in transfer.fetch(layout, ours, layout.num_layers - 1, np.dtype(np.float32))]
        np.testing.assert_array_equal(np.concatenate(found).reshape(file[-1].shape), file[-1])


def test_placing_a_block_takes_no_second_parameter_and_no_communication():
    layout, sharding = Layout(shape=(64, 32, 64), stacked=True, inputs=1), NamedSharding(
        MESH, PartitionSpec(None, "fsdp", "tensor"))
    array = jax.ShapeDtypeStruct(layout.shape, jnp.bfloat16, sharding=sharding)
    piece = jax.ShapeDtypeStruct((1, 64, 32), jnp.bfloat16, sharding=transfer._file_sharding(layout, sharding))
    compiled = transfer._place.lower(array, piece, 0, 0, layout=layout, sharding=sharding).compile()
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes == memory.output_size_in_bytes == 64 * 32 * 64 * 2 // 4
    assert memory.temp_size_in_bytes <= 2 * 64 * 32 * 2
    text = compiled.as_text()
    assert not [word for word in ("all-gather", "all-reduce", "collective", "all-to-all") if word in text]
    assert "f32[64," not in text  # in bfloat16 XLA would rewrite the whole parameter for each block


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_on_a_tpu_too_a_block_is_placed_and_cut_without_a_second_parameter(dtype):
    pytest.importorskip("libtpu")
    mesh = meshes.make(meshes.MeshConfig(data=1, fsdp=2, tensor=2), topologies.devices("v5p:2x2x1"))
    layout, spec = Layout(shape=(64, 512, 1024), stacked=True, inputs=1), PartitionSpec(None, "fsdp", "tensor")
    sharding = NamedSharding(mesh, spec)
    array = jax.ShapeDtypeStruct(layout.shape, dtype, sharding=sharding)
    piece = jax.ShapeDtypeStruct((1, 512, 512), jnp.bfloat16, sharding=transfer._file_sharding(layout, sharding))
    placed = transfer._place.lower(array, piece, 0, 0, layout=layout, sharding=sharding).compile().memory_analysis()
    assert placed.alias_size_in_bytes == placed.output_size_in_bytes > 16_000_000
    assert placed.temp_size_in_bytes < 1_000_000
    cut = transfer._cut.lower(array, 0, 0, num_units=256, dtype=jnp.dtype(jnp.bfloat16), layout=layout,
                              sharding=sharding).compile().memory_analysis()
    assert cut.temp_size_in_bytes < 1_000_000


_PEAK = """
import os, pathlib, sys
os.environ["JAX_PLATFORMS"], os.environ["XLA_FLAGS"] = "cpu", "--xla_force_host_platform_device_count=8"
import jax, ml_dtypes, numpy as np
from libra_jax.model import hf, safetensors_io, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import mesh as meshes

def status(name):
    text = pathlib.Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(name + ":"))

def peak(job):
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    result = job()
    return result, status("VmHWM") - before

folder = pathlib.Path(sys.argv[1])
config = ModelConfig(vocab_size=65536, num_layers=6, model_size=512, num_heads=4, num_kv_heads=2, head_size=128,
                     feedforward_size=8192, tie_embeddings=False)
bfloat16 = np.dtype(ml_dtypes.bfloat16)
(folder / "in").mkdir()
plan = hf._plan(config, 2, 20_000_000)
for name, shard in plan.items():
    with hf._writer(folder / "in" / name, shard, bfloat16) as out:
        for item in shard:
            out.write(item.name, 0, np.random.default_rng(0).normal(size=item.shape).astype(bfloat16))
hf._finish(folder / "in", config, plan, bfloat16, None)
largest = 65536 * 512 * 2
mesh = meshes.make(meshes.MeshConfig(data=1, fsdp=4, tensor=2))
jax.block_until_ready(jax.jit(lambda: np.ones(8))())
(_, params), load = peak(lambda: hf.load(folder / "in", mesh=mesh, block_bytes=2**23))
load -= sum(leaf.nbytes for leaf in jax.tree.leaves(params))
_, save = peak(lambda: hf.save(folder / "out", config, params, dtype=bfloat16, max_shard_bytes=2**28,
                               block_bytes=2**23))
_, convert = peak(lambda: hf.convert(folder / "in", folder / "again", dtype="float32"))
print(load / largest, save / largest, convert / largest)
"""


def test_the_peak_beside_the_parameters_is_below_twice_the_largest_tensor(tmp_path):
    run = subprocess.run([sys.executable, "-c", _PEAK, str(tmp_path)], capture_output=True, text=True, check=False,
                         env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])})
    assert run.returncode == 0, run.stderr
    load, save, convert = map(float, run.stdout.split())
    print(f"peak / largest tensor: load {load:.2f}, save {save:.2f}, convert {convert:.2f}")
    assert max(load, save) < 2
    assert convert < 1
