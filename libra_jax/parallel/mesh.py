"""Device meshes: data (copies), fsdp (shards of parameters and batch), sequence (parts of rows), tensor (of layers)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils

AXES = ("data", "fsdp", "sequence", "tensor")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Sizes of the mesh axes; one may be -1 and takes what is left. Slices of TPUs lie along `data`.

    Attributes:
      data: copies of the model, each with its own rows; -1 takes the devices that are left.
      fsdp: parts into which the parameters are cut, and rows with them; -1 as for data.
      sequence: parts into which long rows are cut.
      tensor: parts into which each layer is cut.
    """

    data: int = 1
    fsdp: int = -1
    sequence: int = 1
    tensor: int = 1


def make(config: MeshConfig = MeshConfig(), devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """A mesh over `devices` (default: all). On TPUs, neighbours along `tensor` are neighbours in the machine.

    ValueError when the sizes do not multiply to the number of devices, or `data` not to that of the slices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = _sizes(config, len(devices))
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if sizes[0] % slices:
        raise ValueError(f"mesh {_words(config)}: {slices} slices need data to be a multiple of {slices}, since only "
                         "copies talk over the network between slices")
    auto = (jax.sharding.AxisType.Auto,) * len(AXES)
    return jax.sharding.Mesh(_arrange(sizes, devices, slices), AXES, axis_types=auto)


def for_sampling(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh | None:
    """As `make`, by default over all devices of all hosts; None for the default device alone, where nothing needs to
    be placed."""
    mesh = make(config, devices)
    return None if mesh.size == 1 and mesh.devices.item() == jax.devices()[0] else mesh


def shares(num_rows: int, mesh: jax.sharding.Mesh) -> tuple[list[np.ndarray], int]:
    """Which rows of a batch of `num_rows`, spread over (data, fsdp), each host feeds: (all shares, index of its own).

    Hosts that hold copies of the same rows, because layers are spread over them, have one share together. ValueError
    when shares overlap in part or differ in size.
    """
    layout = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
    by_host: dict[int, set[int]] = {}
    for device, (rows,) in layout.devices_indices_map((num_rows,)).items():
        by_host.setdefault(device.process_index, set()).update(range(*rows.indices(num_rows)))
    every = sorted({tuple(sorted(rows)) for rows in by_host.values()})
    if len({len(rows) for rows in every}) > 1 or sum(map(len, every)) > num_rows:
        local = len(mesh.local_devices)
        raise ValueError(f"mesh {dict(mesh.shape)}: a row would lie on a part of one host and a part of another; "
                         f"sequence * tensor must divide the {local} devices of a host, or be a multiple of them")
    return [np.array(rows) for rows in every], every.index(tuple(sorted(by_host[jax.process_index()])))


def _sizes(config: MeshConfig, count: int) -> list[int]:
    sizes = [getattr(config, axis) for axis in AXES]
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"mesh {_words(config)}: expected sizes of at least 1, of which one may be -1 (what is left)")
    if -1 in sizes:
        known = math.prod(size for size in sizes if size != -1)
        if count % known:
            raise ValueError(f"mesh {_words(config)}: {known} does not divide the number of devices, {count}; expected "
                             "sizes whose product it is (-1: what is left)")
        sizes[sizes.index(-1)] = count // known
    if math.prod(sizes) != count:
        raise ValueError(f"mesh {_words(config)}: {math.prod(sizes)} devices asked for, {count} there; set one size to "
                         "-1 (what is left)")
    return sizes


def _words(config: MeshConfig) -> str:
    return ", ".join(f"{axis}={getattr(config, axis)}" for axis in AXES)


def _arrange(sizes: list[int], devices: list[jax.Device], slices: int) -> np.ndarray:
    """The devices as an array of these sizes, near ones along the last axes."""
    if devices[0].platform != "tpu":
        return np.asarray(devices).reshape(sizes)
    try:
        if slices > 1:
            return mesh_utils.create_hybrid_device_mesh([sizes[0] // slices, *sizes[1:]], [slices, 1, 1, 1], devices,
                                                        allow_split_physical_axes=True)
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    except (ValueError, NotImplementedError, AssertionError):  # two devices a chip, on v4: their own order
        return np.asarray(devices).reshape(sizes)
