"""Parameters between files and devices, block by block: the host holds a few blocks, never a whole tensor.

A file's tensor (one layer) and our parameter (all layers) hold the same numbers in another order of axes. A block is
the same local layers and rows of every shard, so that placing it needs no communication. It travels in the file's
order, and the devices transpose and convert it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec, Sharding

BLOCK_BYTES = 2**25  # of all devices together
_READ_BYTES = 2**22


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How a parameter of this shape lies in files. `stacked`: its axis 0 is the layer, each in a tensor of its own.

    Of the other axes, the first `inputs` are the last of the file's: ours is [inputs..., outputs...], the file's
    [outputs..., inputs...], flattened or not. A unit is what belongs to one index of the file's first axis.
    """

    shape: tuple[int, ...]
    stacked: bool
    inputs: int = 0

    @property
    def num_layers(self) -> int:
        """How many tensors it is made of."""
        return self.shape[0] if self.stacked else 1

    @property
    def lead(self) -> int:
        """Which of our axes is the file's first."""
        return self.stacked + self.inputs

    @property
    def unit(self) -> int:
        """How many elements a unit has."""
        return math.prod(self.shape) // self.num_layers // self.shape[self.lead]

    @property
    def order(self) -> tuple[int, ...]:
        """Our axes in the file's order, behind the layer."""
        inputs = range(self.stacked, self.lead)
        return (*range(self.stacked), *range(self.lead, len(self.shape)), *inputs)

    def to_file(self, array: Any) -> Any:
        """Ours -> [layers, units, ...] in the file's order (NumPy or JAX)."""
        array = array.transpose(self.order)
        return array if self.stacked else array[None]

    def from_file(self, array: Any) -> Any:
        """The inverse of to_file."""
        return (array if self.stacked else array[0]).transpose(np.argsort(self.order))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Block:
    """Local layers and units; `shards` says over how many shards the axis of each is spread."""

    layers: range
    units: range
    shards: tuple[int, int]
    shape: tuple[int, ...]  # of the global array, in the file's order


def load(layout: Layout, sharding: Sharding, dtype: np.dtype, read: Callable[[int, int, int], np.ndarray], *,
         staged: np.dtype, block_bytes: int = BLOCK_BYTES) -> jax.Array:
    """A parameter from `read(layer, start, stop)`, which gives the units [start, stop) of a layer as a flat array.

    `staged` is the dtype in which blocks travel. What several devices of a host hold is read once.
    """
    blocks = _blocks(layout, sharding, max(dtype.itemsize, staged.itemsize), block_bytes)
    if len(blocks) == 1:  # small: put in order on the host, which spares a program for its shape
        parts = _parts(layout, sharding, blocks[0], read, staged)
        own = {id(part): np.ascontiguousarray(layout.from_file(part).astype(dtype, copy=False))
               for part in parts.values()}
        return _assemble(layout.shape, sharding, {device: own[id(part)] for device, part in parts.items()})
    array = jax.jit(lambda: jnp.zeros(layout.shape, dtype), out_shardings=sharding)()
    for block in blocks:
        parts = _parts(layout, sharding, block, read, staged)
        jax.block_until_ready(array)  # one block is on its way while the next is read, no more
        piece = _assemble(block.shape, _file_sharding(layout, sharding), parts)
        array = _place(array, piece, block.layers.start, block.units.start, layout=layout, sharding=sharding)
    return jax.block_until_ready(array)


def fetch(layout: Layout, array: Any, layer: int, dtype: np.dtype, *, block_bytes: int = BLOCK_BYTES
          ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields one layer as (first unit, units in the file's order and of `dtype`) until all its units are through.

    If several processes hold the array, all must run this to its end.
    """
    if not isinstance(array, jax.Array):
        inner = dataclasses.replace(layout, shape=layout.shape[layout.stacked:], stacked=False)
        array, layout, layer = jnp.asarray(array[layer] if layout.stacked else array), inner, 0
    if array.is_fully_replicated:
        array = array.addressable_data(0)
    local = array.sharding.shard_shape(array.shape)
    local_layers = local[0] if layout.stacked else 1
    for block in _blocks(layout, array.sharding, dtype.itemsize, block_bytes, only=layer % local_layers):
        piece = _cut(array, block.layers.start, block.units.start, num_units=len(block.units), dtype=dtype,
                     layout=layout, sharding=array.sharding)
        whole = _gather(piece)[layer // local_layers]
        del piece  # not beside the next one
        for shard, units in enumerate(np.split(whole, block.shards[1])):
            yield shard * local[layout.lead] + block.units.start, units


def _blocks(layout: Layout, sharding: Sharding, itemsize: int, block_bytes: int, only: int | None = None
            ) -> list[_Block]:
    """All blocks of a parameter (or of one local layer), as large and as even as `block_bytes` lets them be."""
    local = sharding.shard_shape(layout.shape)
    num_layers, num_units = local[0] if layout.stacked else 1, local[layout.lead]
    shards = layout.num_layers // num_layers, layout.shape[layout.lead] // num_units
    smallest = math.prod(shards) * layout.unit * itemsize
    units = _even(num_units, block_bytes // smallest)
    layers = _even(num_layers, block_bytes // (smallest * num_units))
    inner = [layout.shape[axis] for axis in layout.order][layout.stacked + 1:]
    found = []
    for layer in range(0, num_layers, layers) if only is None else (only,):
        for unit in range(0, num_units, units):
            block = (range(layer, min(layer + layers, num_layers) if only is None else only + 1),
                     range(unit, min(unit + units, num_units)))
            shape = (*(count * len(part) for count, part in zip(shards, block, strict=True)), *inner)
            found.append(_Block(layers=block[0], units=block[1], shards=shards, shape=shape))
    return found


def _even(count: int, largest: int) -> int:
    """The size of parts of `count` things: at most `largest` (or 1), and as few sizes as can be."""
    return -(-count // -(-count // max(1, min(count, largest))))


def _parts(layout: Layout, sharding: Sharding, block: _Block, read: Callable[[int, int, int], np.ndarray],
           staged: np.dtype) -> dict[jax.Device, np.ndarray]:
    """What each device of this host gets of a block; devices that hold the same share one array."""
    indices = _file_sharding(layout, sharding).addressable_devices_indices_map(block.shape)
    bounds = {device: tuple(range(*s.indices(size)) for s, size in zip(index or (), block.shape, strict=True))
              for device, index in indices.items()}
    parts = {bound: _aligned([len(side) for side in bound], staged) for bound in set(bounds.values())}
    local = layout.num_layers // block.shards[0], layout.shape[layout.lead] // block.shards[1]
    step = max(1, _READ_BYTES // (layout.unit * staged.itemsize))
    for rows in {bound[:2] for bound in parts}:
        first_layer, first_unit = (side.start // len(own) * size + own.start for side, own, size in
                                   zip(rows, (block.layers, block.units), local, strict=True))
        mine = [(part, tuple(slice(side.start, side.stop) for side in bound[2:])) for bound, part in parts.items()
                if bound[:2] == rows]
        for layer in range(len(block.layers)):
            for unit in range(0, len(block.units), step):
                stop = min(unit + step, len(block.units))
                found = read(first_layer + layer, first_unit + unit, first_unit + stop)
                found = found.reshape(stop - unit, *block.shape[2:])
                for part, columns in mine:
                    part[layer, unit:stop] = found[:, *columns]
    return {device: parts[bound] for device, bound in bounds.items()}


def _aligned(shape: list[int], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that begins at a multiple of 64 bytes, which a CPU device takes without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start:start + size].view(dtype).reshape(shape)


def _assemble(shape: tuple[int, ...], sharding: Sharding, parts: dict[jax.Device, np.ndarray]) -> jax.Array:
    arrays = jax.device_put(list(parts.values()), list(parts))
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def _file_sharding(layout: Layout, sharding: Sharding) -> Sharding:
    """The sharding of a block [layers, units, ...] that lies as the parameter's `sharding` says."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    return NamedSharding(sharding.mesh, _file_spec(layout, sharding))


def _file_spec(layout: Layout, sharding: NamedSharding) -> PartitionSpec:
    entries = (*sharding.spec, *(None,) * (len(layout.shape) - len(sharding.spec)))
    entries = [entries[axis] for axis in layout.order]
    return PartitionSpec(*(() if layout.stacked else (None,)), *entries)


@functools.partial(jax.jit, static_argnames=("layout", "sharding"), donate_argnames="array")
def _place(array: jax.Array, piece: jax.Array, layer: jax.Array, unit: jax.Array, *, layout: Layout,
           sharding: Sharding) -> jax.Array:
    """`array` with the block `piece` written over its local layers from `layer` and units from `unit` on."""
    def local(array, piece, layer, unit):
        start = [0] * len(layout.shape)
        start[layout.lead] = unit
        if layout.stacked:
            start[0] = layer
        new = layout.from_file(_bits(piece.astype(array.dtype), sharding))
        return _unbits(jax.lax.dynamic_update_slice(_bits(array, sharding), new, start), array.dtype)

    if not isinstance(sharding, NamedSharding):
        return local(array, piece, layer, unit)
    specs = sharding.spec, _file_spec(layout, sharding), PartitionSpec(), PartitionSpec()
    return jax.shard_map(local, mesh=sharding.mesh, in_specs=specs, out_specs=sharding.spec)(array, piece, layer, unit)


@functools.partial(jax.jit, static_argnames=("num_units", "dtype", "layout", "sharding"))
def _cut(array: jax.Array, layer: jax.Array, unit: jax.Array, *, num_units: int, dtype: np.dtype, layout: Layout,
         sharding: Sharding) -> jax.Array:
    """The block of one local layer and `num_units` units, in the file's order and `dtype`: the inverse of _place."""
    def local(array, layer, unit):
        start, sizes = [0] * array.ndim, list(array.shape)
        start[layout.lead], sizes[layout.lead] = unit, num_units
        if layout.stacked:
            start[0], sizes[0] = layer, 1
        piece = _unbits(jax.lax.dynamic_slice(_bits(array, sharding), start, sizes), array.dtype)
        return _unbits(layout.to_file(_bits(piece.astype(dtype), sharding)), dtype)

    if not isinstance(sharding, NamedSharding):
        return local(array, layer, unit)
    specs = sharding.spec, PartitionSpec(), PartitionSpec()
    return jax.shard_map(local, mesh=sharding.mesh, in_specs=specs,
                         out_specs=_file_spec(layout, sharding))(array, layer, unit)


def _bits(array: jax.Array, sharding: Sharding) -> jax.Array:
    """On CPUs, 16-bit floats as integers: XLA updates them there by way of float32, the whole array for each block.

    On TPUs as they are: there it is the integers that would cost a copy of the whole array.
    """
    on_cpu = next(iter(sharding.device_set)).platform == "cpu"
    return jax.lax.bitcast_convert_type(array, jnp.uint16) if on_cpu and array.dtype.itemsize == 2 else array


def _unbits(array: jax.Array, dtype: np.dtype) -> jax.Array:
    return jax.lax.bitcast_convert_type(array, dtype) if array.dtype != dtype else array


def _gather(piece: jax.Array) -> np.ndarray:
    """A block on the host: on every one, if several processes hold it."""
    if not piece.is_fully_addressable:
        return multihost_utils.process_allgather(piece, tiled=True)
    shards = [shard for shard in piece.addressable_shards if shard.replica_id == 0]
    for shard in shards:
        shard.data.copy_to_host_async()
    if len(shards) == 1:
        return np.asarray(shards[0].data)
    whole = np.empty(piece.shape, piece.dtype)
    for shard in shards:
        whole[shard.index] = np.asarray(shard.data)
    return whole
