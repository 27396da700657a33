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
TILE = 8  # rows that a CPU reads at a time
WIDE = 4  # kv heads up to which a CPU multiplies with all of them at once
_MASKED = -1e30


def attend(config: ModelConfig, q: jax.Array, k: jax.Array, v: jax.Array, cache: Cache, layer: jax.Array, where: Where,
           window: jax.Array | None) -> tuple[jax.Array, Cache]:
    """Writes k, v [B, T, K, H] and gives softmax(q k / sqrt(scale), softcapped, masked) v [B, T, N, H] and the cache.

    A query sees its row's positions up to its own, fewer than `window` back where that is given and not 0. ValueError
    when the mesh cuts the pages and not the rows.
    """
    q = q * (config.query_scale or config.head_size) ** -0.5
    kv = caches.interleave(k, v)
    window = jnp.zeros((), jnp.int32) if window is None else window
    if rules.mesh() is None:
        return _local(config, q, kv, cache, layer, where, window)
    held = caches.fit(config, cache.pages.shape[1], bool(cache.scale.size))
    batch, heads = rules.fit(("batch",), (q.shape[0],))[0], held.pages[3]
    if batch != held.pages[1]:
        raise ValueError(f"{q.shape[0]} rows and {cache.pages.shape[1]} pages are not cut alike by the mesh; expected "
                         "multiples of data * fsdp")
    mine, spec = jax.P(batch, None, heads, None), Where(jax.P(batch, None), jax.P(batch), jax.P(batch))
    run = jax.shard_map(functools.partial(_local, config), mesh=rules.mesh(), check_vma=False,
                        in_specs=(mine, mine, held, jax.P(), spec, jax.P()), out_specs=(mine, held))
    return run(q, kv, cache, layer, where, window)


def suits_kernel(num_kv_heads: int, head_size: int, dtype: str) -> bool:
    """Whether the TPU's kernel takes pages with so many kv heads on a device."""
    packed, left = divmod(2 * num_kv_heads, 4 // jnp.dtype(dtype).itemsize)
    return head_size % 128 == 0 and not left and (packed in (1, 2, 4) or packed % 8 == 0)


def _local(config: ModelConfig, q: jax.Array, kv: jax.Array, cache: Cache, layer: jax.Array, where: Where,
           window: jax.Array) -> tuple[jax.Array, Cache]:
    """`attend` on one device, for scaled q and kv [B, T, 2K, H]."""
    b, t, n, h = q.shape
    cache = caches.write(cache, layer, where, kv)
    scale = cache.scale[layer].reshape(-1, 2, 1, h) if cache.scale.size else None  # [K, key and value, 1, H]
    q = q.reshape(b, t, kv.shape[2] // 2, -1, h)
    if scale is not None:
        q = (q * scale[:, 0]).astype(q.dtype)
    if config.attention != "xla" and suits_kernel(kv.shape[2] // 2, h, cache.pages.dtype.name):
        out = _kernel(config, q, cache, layer, where, window)
    elif t == 1 and kv.shape[2] // 2 <= WIDE:
        wide, grouped = functools.partial(_by_tile, config), functools.partial(_by_page, config, _grouped)
        out = jax.lax.platform_dependent(q, cache.pages, layer, where, window, cpu=wide, default=grouped)
    else:
        out = _by_page(config, _grouped, q, cache.pages, layer, where, window)
    if scale is not None:
        out = out * scale[:, 1]
    return out.reshape(b, t, n, h).astype(kv.dtype), cache


def _by_page(config: ModelConfig, read, q: jax.Array, pages: jax.Array, layer: jax.Array, where: Where,
             window: jax.Array) -> jax.Array:
    """q [B, T, K, G, H] -> float32 [B, T, K, G, H]. `read` (config, q) gives products of pages with queries and weights.
    """
    b, t, k, g, _ = q.shape
    keys, values, own = read(config, q)
    at = where.first[:, None] + jnp.arange(t)
    last = jnp.max(where.first + jnp.minimum(where.count, t)) - 1
    end = jnp.minimum(last // PAGE + 1, where.table.shape[1])
    start = jnp.where(window > 0, jnp.maximum(jnp.min(where.first) - window + 1, 0) // PAGE, 0)
    table = jnp.clip(where.table, 0, pages.shape[1] - 1)

    def body(carry):
        index, highest, total, out = carry
        page = pages[layer, jax.lax.dynamic_index_in_dim(table, index, 1, keepdims=False)]  # [B, PAGE, 2K, H]
        distance = at[:, :, None] - (index * PAGE + jnp.arange(PAGE))
        allowed = (distance >= 0) & ((window == 0) | (distance < window))
        page = page.astype(q.dtype)
        scores = keys(page)  # [B, T, K, G, PAGE]
        if config.attention_softcap:
            scores = config.attention_softcap * jnp.tanh(scores / config.attention_softcap)
        scores = jnp.where(allowed[:, :, None, None], scores, _MASKED)
        new = jnp.maximum(highest, jnp.max(scores, axis=-1))
        weights = jnp.where(allowed[:, :, None, None], jnp.exp(scores - new[..., None]), 0.0)
        shrink = jnp.exp(highest - new)
        out = out * shrink[..., None] + values(page, weights)
        return index + 1, new, total * shrink + jnp.sum(weights, axis=-1), out

    width = jax.eval_shape(values, jax.ShapeDtypeStruct((b, *pages.shape[2:]), q.dtype),
                           jax.ShapeDtypeStruct((b, t, k, g, PAGE), jnp.float32)).shape
    init = (start, jnp.full((b, t, k, g), _MASKED), jnp.zeros((b, t, k, g)), jnp.zeros(width))
    _, _, total, out = jax.lax.while_loop(lambda carry: carry[0] < end, body, init)
    return own(out) / jnp.maximum(total, 1e-30)[..., None]


def _by_tile(config: ModelConfig, q: jax.Array, pages: jax.Array, layer: jax.Array, where: Where, window: jax.Array
             ) -> jax.Array:
    """TILE rows at a time, whose pages a CPU's cache holds, each as far as the longest of them."""
    if len(q) <= TILE or len(q) % TILE:
        return _by_page(config, _wide, q, pages, layer, where, window)

    def tile(part):
        q, where = part
        return _by_page(config, _wide, q, pages, layer, where, window)

    parts = jax.tree.map(lambda each: each.reshape(-1, TILE, *each.shape[1:]), (q, where))
    return jax.lax.map(tile, parts).reshape(q.shape)


def _grouped(config: ModelConfig, q: jax.Array):
    exact = precision(config)

    def keys(page):
        return jnp.einsum("btkgh,bskh->btkgs", q, page[:, :, 0::2], precision=exact,
                          preferred_element_type=jnp.float32)

    def values(page, weights):
        return jnp.einsum("btkgs,bskh->btkgh", weights.astype(page.dtype), page[:, :, 1::2], precision=exact,
                          preferred_element_type=jnp.float32)

    return keys, values, lambda out: out


def _wide(config: ModelConfig, q: jax.Array):
    """For one query a row: heads, keys and values side by side in one axis 2K*H, with zeros where they do not meet.

    It multiplies 2K times as often and is faster on a CPU, where grouped products transpose all they read.
    """
    b, _, k, g, h = q.shape
    exact = precision(config)
    apart = jnp.einsum("btkgh,kj->btkgjh", q, jnp.eye(k, dtype=q.dtype))
    apart = jnp.stack([apart, jnp.zeros_like(apart)], axis=-2).reshape(b, k * g, 2 * k * h)

    def keys(page):
        scores = jnp.einsum("bnx,bsx->bns", apart, page.reshape(b, PAGE, 2 * k * h), precision=exact,
                            preferred_element_type=jnp.float32)
        return scores.reshape(b, 1, k, g, PAGE)

    def values(page, weights):
        weights = weights.reshape(b, k * g, PAGE).astype(page.dtype)
        out = jnp.einsum("bns,bsx->bnx", weights, page.reshape(b, PAGE, 2 * k * h), precision=exact,
                         preferred_element_type=jnp.float32)
        return out.reshape(b, 1, k, g, 2 * k * h)

    def own(out):
        parts = out.reshape(b, 1, k, g, k, 2, h)
        return jnp.stack([parts[:, :, head, :, head, 1] for head in range(k)], axis=2)

    return keys, values, own


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
