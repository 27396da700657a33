"""The key-value cache: a pool of pages that rows borrow, as an operating system lends memory (arXiv 2309.06180).

A page holds PAGE positions of all layers' keys and values. A row's table lists its pages: the token at position p lies
in page table[p // PAGE], place p % PAGE. Rows that continue the same prompt list the same pages for it. Where the rows
of a batch are spread over devices, so is the pool, and a table speaks of pages of its own device alone.

With 8-bit pages each channel (of a layer, a head) has a fixed scale, measured once (`scales`): scores take the keys'
scale with the query, and the values' comes onto the result, so that any attention kernel reads the pages as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules

PAGE = 32  # positions of a page
AXES = ("layers", "pages", None, "kv_heads", None, "head")
KERNEL_AXES = ("layers", "pages", None, "kv_heads", "head")
Leaf = Any  # an array, of JAX or of the host; in a tree of the same form its shape, sharding or PartitionSpec
MARGIN = 1.25  # how far beyond what was measured 8-bit pages reach


class Cache(NamedTuple):
    """Keys (rotated) and values. `pages` [L, P, 2, K, PAGE, H]: keys, then values, head by head.

    Where `config.attention` is the TPU's kernel, as that wants them: [L, P, PAGE, 2K, H], key and value of head 0, of
    head 1, and so on. `scale` float32 [L, 2, K, H]: what one step of an 8-bit page is worth; of size 0 in other pages.
    """

    pages: Leaf
    scale: Leaf


class Where(NamedTuple):
    """Where the tokens [B, T] of a call lie: token t of row b at position first[b] + t, for t < count[b].

    `table` int32 [B, M]: each row's pages. Tokens from `count` on are padding: computed, and not written.
    """

    table: Leaf
    first: Leaf
    count: Leaf


def init(config: ModelConfig, num_pages: int, dtype: str = "", scale: jax.Array | None = None) -> Cache:
    """A pool of `num_pages` empty pages in `dtype` ("": config.dtype; "int8" needs `scale`)."""
    layers, heads, size = config.num_layers, config.num_kv_heads, config.head_size
    shape = ((layers, num_pages, 2, heads, PAGE, size) if config.attention == "xla" else
             (layers, num_pages, PAGE, 2 * heads, size))
    empty = jnp.zeros((layers, 2, 0, size), jnp.float32)
    return Cache(pages=jnp.zeros(shape, jnp.dtype(dtype or config.dtype)), scale=empty if scale is None else scale)


def shardings(config: ModelConfig, mesh: jax.sharding.Mesh, num_pages: int, dtype: str = "") -> Cache:
    """The NamedShardings of init(config, num_pages, dtype), for jit's out_shardings or device_put."""
    axes, sizes = _axes(config, num_pages)
    pages = rules.sharding(mesh, axes, sizes)
    heads = pages.spec[3] if dtype == "int8" else None
    return Cache(pages=pages, scale=jax.NamedSharding(mesh, jax.P(None, None, heads, None)))


def fit(config: ModelConfig, num_pages: int, eight_bit: bool) -> Cache:
    """The PartitionSpecs of a cache on the mesh that is set."""
    pages = rules.fit(*_axes(config, num_pages))
    return Cache(pages=pages, scale=jax.P(None, None, pages[3] if eight_bit else None, None))


def _axes(config: ModelConfig, num_pages: int) -> tuple[tuple[str | None, ...], list[int]]:
    """Axes of the pages, and sizes for the rules: of kv heads, since a key and its value stay together."""
    axes = AXES if config.attention == "xla" else KERNEL_AXES
    sizes = {"pages": num_pages, "kv_heads": config.num_kv_heads}
    return axes, [1 if axis is None else sizes.get(axis, 1) for axis in axes]


def write(cache: Cache, layer: jax.Array | int, where: Where, k: jax.Array, v: jax.Array) -> Cache:
    """Writes k, v [B, T, K, H] of one layer to their places; beyond a table's end nothing is written."""
    kv = jnp.stack([k, v], axis=2)
    if cache.scale.size:
        kv = jnp.clip(jnp.round(kv / cache.scale[layer]), -127, 127)
    kv = kv.astype(cache.pages.dtype)
    steps = jnp.arange(k.shape[1])
    positions = where.first[:, None] + steps
    inside = (steps < where.count[:, None]) & (positions < where.table.shape[1] * PAGE)
    pages = jnp.take_along_axis(where.table, positions // PAGE, axis=1, mode="clip")
    pages = jnp.where(inside, pages, cache.pages.shape[1])
    if cache.pages.ndim == len(AXES):
        written = cache.pages.at[layer, pages, :, :, positions % PAGE].set(kv, mode="drop")
    else:
        kv = jnp.moveaxis(kv, 2, 3).reshape(*k.shape[:2], -1, k.shape[3])
        written = cache.pages.at[layer, pages, positions % PAGE].set(kv, mode="drop")
    return cache._replace(pages=written)


def scales(cache: Cache) -> jax.Array:
    """float32 [L, 2, K, H] for 8-bit pages, from pages of another kind that hold some of what such pages shall hold.

    Each channel's largest number, with MARGIN; numbers beyond it are clipped.
    """
    size = jnp.abs(cache.pages.astype(jnp.float32))
    if cache.pages.ndim == len(AXES):
        largest = jnp.max(size, axis=(1, 4), initial=1e-6)
    else:
        flat = jnp.max(size, axis=(1, 2), initial=1e-6)
        largest = jnp.swapaxes(flat.reshape(len(flat), -1, 2, flat.shape[-1]), 1, 2)
    return largest * (MARGIN / 127)
