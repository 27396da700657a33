"""The key-value cache: the slot of a token is its position, so rows of different lengths need no left padding."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules

AXES = ("layers", "batch", "source", "kv_heads", "head")


class Cache(NamedTuple):
    """Keys (rotated) and values, each [L, B, S, K, H]. A query at position p reads slots 0 .. p, never beyond."""

    k: jax.Array
    v: jax.Array

    @property
    def length(self) -> int:
        """S, the number of positions that fit."""
        return self.k.shape[2]


def init(config: ModelConfig, batch: int, length: int, dtype: str | jnp.dtype | None = None) -> Cache:
    """An empty cache of `batch` rows and `length` positions, in `dtype` (default: config.dtype)."""
    shape = (config.num_layers, batch, length, config.num_kv_heads, config.head_size)
    dtype = jnp.dtype(dtype or config.dtype)
    return Cache(k=jnp.zeros(shape, dtype), v=jnp.zeros(shape, dtype))


def repeat(cache: Cache, n: int) -> Cache:
    """Each row n times, side by side: rows [a, b] become [a, a, b, b] for n = 2 (n samples share one prefill)."""
    return Cache(*(jnp.repeat(part, n, axis=1) for part in cache))


def shardings(config: ModelConfig, mesh: jax.sharding.Mesh, batch: int, length: int) -> Cache:
    """The NamedShardings of init(config, batch, length), for jit's out_shardings or device_put."""
    shape = (config.num_layers, batch, length, config.num_kv_heads, config.head_size)
    return Cache(*(rules.sharding(mesh, AXES, shape) for _ in range(2)))


def write(cache: Cache, layer: jax.Array | int, slots: jax.Array, k: jax.Array, v: jax.Array) -> Cache:
    """Writes k, v [B, T, K, H] of one layer at slots [B, T]; a slot outside 0 .. S-1 is not written."""
    rows = jnp.arange(slots.shape[0])[:, None]
    return Cache(k=cache.k.at[layer, rows, slots].set(k.astype(cache.k.dtype), mode="drop"),
                 v=cache.v.at[layer, rows, slots].set(v.astype(cache.v.dtype), mode="drop"))
