"""New weights for the engine: from where the trainer keeps them to where decoding wants them, on the devices."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from libra_jax.model import lora, transformer
from libra_jax.model.config import ModelConfig


def enter(config: ModelConfig, params: transformer.Params, mesh: jax.sharding.Mesh) -> transformer.Params:
    """A copy of `params` for sampling: matrices in config.dtype, laid out over `mesh` by the rules table. Adapted ones
    are summed up.

    One jitted program casts and moves them where both lie on the same devices. Where they lie on others, it cuts them
    as `mesh` wants them, and each part is sent from device to device. The copy has memory of its own: the trainer may
    take its own back (donate it) at once. ValueError when the trainer's devices are not a multiple of those of `mesh`.
    """
    leaf = jax.tree.leaves(params)[0]
    here = getattr(leaf.sharding, "mesh", None)
    source = list(here.devices.flat) if isinstance(here, jax.sharding.Mesh) else list(leaf.sharding.device_set)
    if source == list(mesh.devices.flat):
        return _program(config, mesh)(params)
    if len(source) % mesh.size:
        raise ValueError(f"weights on {len(source)} devices for {mesh.size} others: expected a multiple")
    shape, names = (len(source) // mesh.size, *mesh.devices.shape), ("copies", *mesh.axis_names)
    auto = (jax.sharding.AxisType.Auto,) * len(names)
    mirror = jax.sharding.Mesh(np.array(source).reshape(shape), names, axis_types=auto)
    return jax.tree.map(_send, _program(config, mirror)(params), transformer.shardings(config, mesh))


@functools.lru_cache(maxsize=8)
def _program(config: ModelConfig, mesh: jax.sharding.Mesh) -> Callable:
    return jax.jit(lambda params: jax.tree.map(jnp.copy, transformer.cast(config, lora.merge(params))),
                   out_shardings=transformer.shardings(config, mesh))


def _send(array: jax.Array, layout: jax.sharding.NamedSharding) -> jax.Array:
    """`array`, some device of which holds each part that `layout` wants, on the devices of `layout`."""
    parts = {str(shard.index): shard.data for shard in array.addressable_shards}
    sent = [jax.device_put(parts[str(index)], device)
            for device, index in layout.addressable_devices_indices_map(array.shape).items()]
    return jax.make_array_from_single_device_arrays(array.shape, layout, sent)
