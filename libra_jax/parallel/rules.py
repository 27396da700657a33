"""The one table from logical axes, which layers and batches name, to mesh axes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

import jax
from jax.sharding import NamedSharding, PartitionSpec

from libra_jax.parallel.mesh import AXES

RULES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),  # rows of a batch, of activations
    "time": ("sequence",),
    "stream": ("sequence", "tensor"),  # the time axis of the residual stream between blocks (arXiv 2205.05198)
    "pages": ("data", "fsdp"),  # of the cache: cut as the rows that they belong to
    # While rows decode one token each, activations come to the weights, not weights to them (arXiv 2211.05102, 3.2).
    "rows": ("data",),
    "features": ("fsdp",),
    "layers": (),
    "model": ("fsdp",),  # the model axis of a parameter
    "activation": (),  # the model axis of an activation
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "head": (),
    "feedforward": ("tensor",),
    "vocabulary": ("tensor",),
    "norm": (),
    "rank": (),  # of an adapter
}


def spec(logical_axes: Sequence[str | None]) -> PartitionSpec:
    """The PartitionSpec of an array whose axes have these logical names (None: not sharded).

    ValueError for a name that RULES lacks.
    """
    entries = []
    for name in logical_axes:
        if name is not None and name not in RULES:
            near = difflib.get_close_matches(name, RULES, 1, 0)
            raise ValueError(f"logical axis {name!r} has no rule; the nearest is {near[0]!r} (parallel/rules.py)")
        axes = RULES[name] if name is not None else ()
        entries.append(axes if len(axes) > 1 else axes[0] if axes else None)
    return PartitionSpec(*entries)


def sharding(mesh: jax.sharding.Mesh, logical_axes: Sequence[str | None], shape: Sequence[int] | None = None
             ) -> NamedSharding:
    """The NamedSharding of such an array. With `shape`, an axis that its mesh axes do not divide stays whole."""
    return NamedSharding(mesh, _divisible(spec(logical_axes), dict(mesh.shape), shape))


def mesh() -> jax.sharding.AbstractMesh | None:
    """The mesh that is set (jax.set_mesh), or None where there is none, or one of a single device."""
    found = jax.sharding.get_abstract_mesh()
    return None if found.empty or not set(found.axis_names) >= set(AXES) or found.size == 1 else found


def fit(logical_axes: Sequence[str | None], shape: Sequence[int]) -> PartitionSpec:
    """The PartitionSpec of such an array on the mesh that is set; an axis that its mesh axes do not divide is whole."""
    found = mesh()
    if found is None:
        return PartitionSpec(*[None] * len(shape))
    return _only_cut(_divisible(spec(logical_axes), dict(found.shape), shape), dict(found.shape))


def constrain(array: jax.Array, logical_axes: Sequence[str | None]) -> jax.Array:
    """Pins the sharding of an activation where a mesh is set; otherwise returns it as it is."""
    return array if mesh() is None else jax.lax.with_sharding_constraint(array, fit(logical_axes, array.shape))


def _only_cut(partition: PartitionSpec, mesh: dict[str, int]) -> PartitionSpec:
    """Without mesh axes of one device, along which collectives would only cost time."""
    entries = []
    for entry in partition:
        axes = tuple(axis for axis in (entry if isinstance(entry, tuple) else (entry,)) if axis and mesh[axis] > 1)
        entries.append(axes if len(axes) > 1 else axes[0] if axes else None)
    return PartitionSpec(*entries)


def _divisible(partition: PartitionSpec, mesh: dict[str, int], shape: Sequence[int] | None) -> PartitionSpec:
    if shape is None:
        return partition
    entries = []
    for size, entry in zip(shape, partition, strict=True):
        axes = () if entry is None else entry if isinstance(entry, tuple) else (entry,)
        while axes and size % math.prod(mesh[axis] for axis in axes):
            axes = axes[:-1]
        entries.append(axes if len(axes) > 1 else axes[0] if axes else None)
    return PartitionSpec(*entries)
