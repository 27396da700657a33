"""Attention to pages of a cache (model/cache.py): a new token's keys are written, then its query reads its row's pages.

Every device does this for its own rows, pages and heads. On TPUs with jax's ragged paged attention kernel, where the
model's shape suits it; elsewhere page by page with a running softmax (arXiv 1805.02867), as many pages as the longest
row of the call has. The sums over a page's places and over a row's pages are taken in the same order wherever the pages
lie and whatever the other rows are, so a row's results do not depend on them. Axis letters as in model/__init__.py.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ragged_paged_attention

from libra_jax.model import cache as caches
from libra_jax.model.attention import precision
from libra_jax.model.cache import PAGE, Cache, Where
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules

BLOCK_PAGES = 8  # pages that the kernel reads at a time
BLOCK_QUERIES = 32  # queries that it holds at a time
_MASKED = -1e30


def attend(config: ModelConfig, q: jax.Array, k: jax.Array, v: jax.Array, cache: Cache, layer: jax.Array, where: Where,
           window: jax.Array | None) -> tuple[jax.Array, Cache]:
    """Writes k, v [B, T, K, H] and gives softmax(q k / sqrt(scale), softcapped, masked) v [B, T, N, H] and the cache.

    A query sees its row's positions up to its own, fewer than `window` back where that is given and not 0. ValueError
    when the mesh cuts the pages and not the rows.
    """
    q = q * (config.query_scale or config.head_size) ** -0.5
    window = jnp.zeros((), jnp.int32) if window is None else window
    if rules.mesh() is None:
        return _local(config, q, k, v, cache, layer, where, window)
    held = caches.fit(config, cache.pages.shape[1], bool(cache.scale.size))
    batch, heads = rules.fit(("batch",), (q.shape[0],))[0], held.pages[3]
    if batch != held.pages[1]:
        raise ValueError(f"{q.shape[0]} rows and {cache.pages.shape[1]} pages are not cut alike by the mesh; expected "
                         "multiples of data * fsdp")
    mine, spec = jax.P(batch, None, heads, None), Where(jax.P(batch, None), jax.P(batch), jax.P(batch))
    run = jax.shard_map(functools.partial(_local, config), mesh=rules.mesh(), check_vma=False,
                        in_specs=(mine, mine, mine, held, jax.P(), spec, jax.P()), out_specs=(mine, held))
    return run(q, k, v, cache, layer, where, window)


def suits_kernel(num_kv_heads: int, head_size: int, dtype: str) -> bool:
    """Whether the TPU's kernel takes pages with so many kv heads on a device."""
    packed, left = divmod(2 * num_kv_heads, 4 // jnp.dtype(dtype).itemsize)
    return head_size % 128 == 0 and not left and (packed in (1, 2, 4) or packed % 8 == 0)


def _local(config: ModelConfig, q: jax.Array, k: jax.Array, v: jax.Array, cache: Cache, layer: jax.Array, where: Where,
           window: jax.Array) -> tuple[jax.Array, Cache]:
    """`attend` on one device, for scaled q."""
    b, t, n, h = q.shape
    cache = caches.write(cache, layer, where, k, v)
    q = q.reshape(b, t, k.shape[2], -1, h)
    scale = cache.scale[layer][:, :, None] if cache.scale.size else None  # [key and value, K, 1, H]
    if scale is not None:
        q = (q * scale[0]).astype(q.dtype)
    read = _by_page if config.attention == "xla" else _kernel
    out = read(config, q, cache, layer, where, window)
    if scale is not None:
        out = out * scale[1]
    return out.reshape(b, t, n, h).astype(k.dtype), cache


def _by_page(config: ModelConfig, q: jax.Array, cache: Cache, layer: jax.Array, where: Where, window: jax.Array
             ) -> jax.Array:
    """q [B, T, K, G, H] -> float32 [B, T, K, G, H]."""
    b, t, k, g, h = q.shape
    exact = precision(config)
    q = jnp.moveaxis(q, 1, 2).reshape(b, k, t * g, h)  # queries of a head together: one product for each
    at = jnp.repeat(where.first[:, None] + jnp.arange(t), g, axis=1)[:, None, :, None]  # [B, 1, TG, 1]
    last = jnp.max(where.first + jnp.minimum(where.count, t)) - 1
    end = jnp.minimum(last // PAGE + 1, where.table.shape[1])
    start = jnp.where(window > 0, jnp.maximum(jnp.min(where.first) - window + 1, 0) // PAGE, 0)
    table = jnp.clip(where.table, 0, cache.pages.shape[1] - 1)

    def body(carry):
        index, highest, total, out = carry
        page = jax.lax.dynamic_index_in_dim(table, index, 1, keepdims=False)
        # Two reads: each head's [PAGE, H] as it lies, where one read would be copied again to be taken apart.
        keys, values = (cache.pages[layer, page, which].astype(q.dtype) for which in (0, 1))  # [B, K, PAGE, H]
        distance = at - (index * PAGE + jnp.arange(PAGE))
        allowed = (distance >= 0) & ((window == 0) | (distance < window))
        scores = jnp.einsum("bkqh,bksh->bkqs", q, keys, precision=exact, preferred_element_type=jnp.float32)
        if config.attention_softcap:
            scores = config.attention_softcap * jnp.tanh(scores / config.attention_softcap)
        scores = jnp.where(allowed, scores, _MASKED)
        new = jnp.maximum(highest, jnp.max(scores, axis=-1))
        weights = jnp.where(allowed, jnp.exp(scores - new[..., None]), 0.0)
        shrink = jnp.exp(highest - new)
        out = out * shrink[..., None] + jnp.einsum("bkqs,bksh->bkqh", weights.astype(values.dtype), values,
                                                   precision=exact, preferred_element_type=jnp.float32)
        return index + 1, new, total * shrink + jnp.sum(weights, axis=-1), out

    none = jnp.zeros(q.shape[:-1])
    _, _, total, out = jax.lax.while_loop(lambda carry: carry[0] < end, body,
                                          (start, none + _MASKED, none, jnp.zeros(q.shape)))
    out = out / jnp.maximum(total, 1e-30)[..., None]
    return jnp.moveaxis(out.reshape(b, k, t, g, h), 2, 1)


def _kernel(config: ModelConfig, q: jax.Array, cache: Cache, layer: jax.Array, where: Where, window: jax.Array
            ) -> jax.Array:
    """jax's ragged paged attention over the pages of all layers, which lie behind one another."""
    b, t, k, g, h = q.shape
    layers, pages = cache.pages.shape[:2]
    pool = cache.pages.reshape(layers * pages, *cache.pages.shape[2:])
    table = (jnp.clip(where.table, 0, pages - 1) + layer * pages).astype(jnp.int32)
    scales = {"k_scale": 1.0, "v_scale": 1.0} if cache.scale.size else {}

    def run(sliding, q, pool, table, first):
        return ragged_paged_attention(
            q.reshape(b * t, k * g, h), pool, (first + t).astype(jnp.int32), table,
            jnp.arange(b + 1, dtype=jnp.int32) * t, jnp.full(1, b, jnp.int32), sliding_window=sliding,
            soft_cap=config.attention_softcap or None, num_kv_pages_per_block=min(BLOCK_PAGES, table.shape[1]),
            num_queries_per_block=min(BLOCK_QUERIES, b * t), **scales)

    if any(config.sliding_layers):
        out = jax.lax.cond(window > 0, functools.partial(run, config.sliding_window), functools.partial(run, None),
                           q, pool, table, where.first)
    else:
        out = run(None, q, pool, table, where.first)
    return out.reshape(q.shape)
