"""Attention: the plain one that defines the result, in blocks where rows are long, and splash attention on TPUs.

All take q [B, T, N, H] and k, v [B, S, K, H] and give [B, T, N, H]; keys and values are never repeated for the heads
that share them; softmax is in float32. Axis letters are those of libra_jax/model/__init__.py.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask
from jax.sharding import NamedSharding, PartitionSpec

from libra_jax.model import packed
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules

BLOCK = 512  # queries whose scores are held at a time
LANES = 128  # splash attention works on rows of a multiple of this
RESIDUAL = "attention"  # name of what splash attention keeps for its gradient, for remat policies
_MASKED = -1e30  # finite, so that a row which may attend to nothing (padding) gives numbers, not NaN


class View(NamedTuple):
    """What queries may see: keys at most at their own index, in their own segment, fewer than `window` places back.

    `segment_ids` [B, T] of queries and keys (None: one segment); `window` is None where no layer slides, else a traced
    scalar that is the window in layers which slide and 0 in the others.
    """

    segment_ids: jax.Array | None
    window: jax.Array | None


def precision(config: ModelConfig) -> jax.lax.Precision:
    """float32 compute means float32 products on accelerators too, where the default would round the inputs."""
    return jax.lax.Precision.HIGHEST if config.dtype == "float32" else jax.lax.Precision.DEFAULT


def attend(config: ModelConfig, q: jax.Array, k: jax.Array, v: jax.Array, view: View) -> jax.Array:
    """softmax(q k / sqrt(scale), softcapped, masked) v, for keys of the queries' own tokens.

    `config.attention` chooses; splash attention takes rows of a multiple of LANES alone.
    """
    q = q * (config.query_scale or config.head_size) ** -0.5
    if config.attention != "xla" and q.shape[1] % LANES == 0:
        return _splash(config, q, k, v, view)
    return plain(config, q, k, v, view)


def plain(config: ModelConfig, q: jax.Array, k: jax.Array, v: jax.Array, view: View) -> jax.Array:
    """The reference, for scaled q. Rows of more than two blocks are done block by block, and again for the gradient."""
    b, t, n, h = q.shape
    q = q.reshape(b, t, k.shape[2], -1, h)
    if view.segment_ids is not None and rules.mesh() is None and jax.default_backend() == "cpu" and packed.block(t):
        return packed.attend(config, q, k, v, view.segment_ids, view.window).reshape(b, t, n, h)
    if t <= 2 * BLOCK or t % BLOCK:
        return _grouped(config, q, k, v, _allowed(view, jnp.arange(t), jnp.arange(t), view.segment_ids)
                        ).reshape(b, t, n, h)

    def block(start):
        def part(array):
            return jax.lax.dynamic_slice_in_dim(array, start, BLOCK, axis=1)

        index, segments = start + jnp.arange(BLOCK), view.segment_ids
        return _grouped(config, part(q), k, v, _allowed(view, index, jnp.arange(t),
                                                      None if segments is None else part(segments)))

    out = jax.lax.map(jax.checkpoint(block), jnp.arange(0, t, BLOCK))
    return jnp.moveaxis(out, 0, 1).reshape(b, t, n, h)


def _allowed(view: View, queries: jax.Array, keys: jax.Array, segment_ids: jax.Array | None) -> jax.Array:
    """[B or 1, T, S] boolean, for queries and keys of these indices [T] and [S]; `segment_ids` are the queries'."""
    distance = queries[None, :, None] - keys
    allowed = distance >= 0
    if view.window is not None:
        allowed &= (view.window == 0) | (distance < view.window)
    if view.segment_ids is not None and segment_ids is not None:
        theirs = view.segment_ids[:, None, :]
        allowed = allowed & (segment_ids[:, :, None] == theirs) & (theirs > 0)
    return allowed


def _grouped(config: ModelConfig, q: jax.Array, k: jax.Array, v: jax.Array, allowed: jax.Array) -> jax.Array:
    """For scaled q [B,T,K,G,H]; the same shape."""
    scores = jnp.einsum("btkgh,bskh->bkgts", q, k, precision=precision(config), preferred_element_type=jnp.float32)
    weights = _softmax(config, scores, allowed[:, None, None])
    return jnp.einsum("bkgts,bskh->btkgh", weights.astype(v.dtype), v, precision=precision(config))


def _softmax(config: ModelConfig, scores: jax.Array, allowed: jax.Array) -> jax.Array:
    if config.attention_softcap:
        scores = config.attention_softcap * jnp.tanh(scores / config.attention_softcap)
    return jax.nn.softmax(jnp.where(allowed, scores, _MASKED), axis=-1)


def _splash(config: ModelConfig, q: jax.Array, k: jax.Array, v: jax.Array, view: View) -> jax.Array:
    """jax's Pallas kernel under shard_map: heads over tensor, queries over sequence, keys whole on each device."""
    q, k, v = (jnp.swapaxes(each, 1, 2) for each in (q, k, v))  # [B, N, T, H]
    segments = jnp.ones((q.shape[0], q.shape[2]), jnp.int32) if view.segment_ids is None else view.segment_ids
    if view.window is None:
        out = _sharded_kernel(config, 0, q, k, v, segments)
    else:
        out = jax.lax.cond(view.window > 0, functools.partial(_sharded_kernel, config, config.sliding_window),
                           functools.partial(_sharded_kernel, config, 0), q, k, v, segments)
    return jnp.swapaxes(out, 1, 2)


def _sharded_kernel(config: ModelConfig, window: int, q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array
                    ) -> jax.Array:
    """q [B, N, T, H], k and v [B, K, T, H], segments [B, T] -> [B, N, T, H]."""
    mesh = rules.mesh()
    length = q.shape[2]
    if mesh is None:
        return _over_rows(_kernel(config, q.shape[1], length, window, 1), q, k, v, segments, segments)
    batch, heads, kv_heads, time = (
        rules.fit((name,), (size,))[0] for name, size in
        (("batch", q.shape[0]), ("heads", q.shape[1]), ("kv_heads", k.shape[1]), ("time", length)))
    if heads and not kv_heads and k.shape[1] > 1:
        raise ValueError(f"mesh tensor={mesh.shape['tensor']} does not divide the {k.shape[1]} key-value heads, which "
                         "splash attention needs; choose a smaller tensor (and a larger fsdp)")
    parts = mesh.shape["sequence"] if time else 1
    if length // parts % LANES:
        raise ValueError(f"rows of {length} tokens over mesh sequence={parts}: expected parts of a multiple of {LANES}")
    kernel = _kernel(config, q.shape[1] // (mesh.shape["tensor"] if heads else 1), length, window, parts)
    spec = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, time)))
    mine, whole = PartitionSpec(batch, heads, time, None), PartitionSpec(batch, kv_heads, None, None)
    run = jax.shard_map(_over_rows, mesh=mesh, check_vma=False, out_specs=mine,
                        in_specs=(spec, mine, whole, whole, PartitionSpec(batch, time), PartitionSpec(batch, None)))
    return run(kernel, q, k, v, segments, segments)


def _over_rows(kernel, q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, key_segments: jax.Array
               ) -> jax.Array:
    def row(q, k, v, mine, theirs):
        return kernel(q, k, v, segment_ids=splash_attention_kernel.SegmentIds(q=mine, kv=theirs))

    return jax.vmap(row)(q, k, v, segments, key_segments)


def _kernel(config: ModelConfig, num_heads: int, length: int, window: int, parts: int):
    """The kernel for `num_heads` query heads and rows of `length` whose queries lie on `parts` devices."""
    shape = (length, length)
    mask = (splash_attention_mask.LocalMask(shape, (window - 1, 0), 0) if window
            else splash_attention_mask.CausalMask(shape))
    keys = next(size for size in (512, 256, 128) if length % size == 0)
    queries = next(size for size in (512, 256, 128) if length // parts % size == 0)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=queries, block_kv=keys, block_kv_compute=keys, block_q_dkv=queries, block_kv_dkv=keys,
        block_kv_dkv_compute=keys, block_q_dq=queries, block_kv_dq=keys)
    return splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([mask] * num_heads), block_sizes=sizes, head_shards=1, q_seq_shards=parts,
        attn_logits_soft_cap=config.attention_softcap or None, residual_checkpoint_name=RESIDUAL,
        interpret=config.attention == "splash_interpret")
