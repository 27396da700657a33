"""Device meshes with the axes data (copies), fsdp (shards of parameters and batch) and tensor (shards of layers)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np

AXES = ("data", "fsdp", "tensor")


def make(data: int = 1, fsdp: int = -1, tensor: int = 1, devices: Sequence[jax.Device] | None = None
         ) -> jax.sharding.Mesh:
    """A mesh over `devices` (default: all); one size may be -1 and takes what is left.

    Tensor-parallel neighbours are neighbours in the device order of jax.make_mesh. ValueError when the sizes do not
    multiply to the number of devices.
    """
    sizes = [data, fsdp, tensor]
    count = len(devices) if devices is not None else jax.device_count()
    asked = f"data={data}, fsdp={fsdp}, tensor={tensor}"
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"mesh {asked}: expected sizes of at least 1, of which one may be -1 (what is left)")
    if -1 in sizes:
        known = math.prod(size for size in sizes if size != -1)
        if count % known:
            raise ValueError(f"mesh {asked}: {known} does not divide the number of devices, {count}")
        sizes[sizes.index(-1)] = count // known
    if math.prod(sizes) != count:
        raise ValueError(f"mesh {asked}: {math.prod(sizes)} devices asked for, {count} there; set one size to -1")
    auto = (jax.sharding.AxisType.Auto,) * len(AXES)
    if devices is not None:
        return jax.sharding.Mesh(np.asarray(devices).reshape(sizes), AXES, axis_types=auto)
    return jax.make_mesh(sizes, AXES, axis_types=auto)
