"""Attention over packed rows where one CPU computes it: blocks of queries meet only the keys their segments reach.

In a row of many short segments few pairs of tokens may see each other; the plain formula makes them all. Here each
block of queries takes the blocks of keys from the first that it may see to its own, one at a time, with a running
softmax (arXiv 2205.14135), and the gradient does so again from the logarithm of the softmax's denominator. How many
blocks those are is read from the segments as the program runs, row by row, which suits a CPU; accelerators and several
devices take the other paths of model/attention.py. Axis letters as in libra_jax/model/__init__.py; C: tokens of a
block, M: blocks of a row.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from libra_jax.model.config import ModelConfig

MASKED = -1e30  # finite, so that a row which may attend to nothing (padding) gives numbers, not NaN
_BLOCKS = (128, 64, 32)


def block(length: int) -> int:
    """The tokens of a block for rows of `length`; 0 where they are too short to gain, or no block divides them."""
    return next((size for size in _BLOCKS if length % size == 0 and length >= 2 * size), 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(config: ModelConfig, q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array,
           window: jax.Array | None) -> jax.Array:
    """As attention.plain, for scaled q [B,T,K,G,H], k and v [B,T,K,H], segment_ids [B,T]; the shape of q."""
    return _forward(config, q, k, v, segment_ids, window)[0]


def _forward(config, q, k, v, segment_ids, window):
    size = block(q.shape[1])
    first = _first(segment_ids, window, size)

    def row(inputs):
        q, k, v, segments, first = inputs  # [M,K,G*C,H], [K,T,H], [K,T,H], [T], [M]

        def queries(at):
            mine = q[at]

            def keys(place, carry):
                out, top, total = carry
                scores = _scores(config, mine, _part(k, place, size), _allowed(segments, window, at, place, size))
                higher = jnp.maximum(top, scores.max(axis=-1))
                weights, shrink = jnp.exp(scores - higher[..., None]), jnp.exp(top - higher)
                out = out * shrink[..., None] + _product("kqs,ksh->kqh", weights.astype(v.dtype), _part(v, place, size))
                return out, higher, total * shrink + weights.sum(axis=-1)

            shape = mine.shape[:-1]
            start = jnp.zeros(mine.shape, jnp.float32), jnp.full(shape, MASKED), jnp.zeros(shape)
            out, top, total = jax.lax.fori_loop(first[at], at + 1, keys, start)
            return (out / total[..., None]).astype(q.dtype), top + jnp.log(total)

        return jax.lax.map(queries, jnp.arange(q.shape[0]))

    ours = (_blocks(q, size), _keys(k), _keys(v), segment_ids, first)
    out, normaliser = jax.lax.map(row, ours)
    return _unblocked(out, q.shape), (*ours, window, out, normaliser)


def _backward(config, kept, gradient):
    q, k, v, segment_ids, first, window, out, normaliser = kept
    size = q.shape[3] // gradient.shape[3]
    slope = _blocks(gradient, size)

    def row(inputs):
        q, k, v, segments, first, slope, normaliser, weighted = inputs

        def queries(at, carry):
            mine, slopes, norms, means = q[at], slope[at], normaliser[at][..., None], weighted[at][..., None]

            def keys(place, carry):
                to_q, to_k, to_v = carry
                here = _part(k, place, size)
                allowed = _allowed(segments, window, at, place, size)
                scores = _scores(config, mine, here, allowed)
                weights = jnp.exp(scores - norms)
                to_weights = _product("kqh,ksh->kqs", slopes, _part(v, place, size))
                to_scores = weights * (to_weights - means)
                if config.attention_softcap:
                    to_scores *= jnp.where(scores > MASKED, 1 - jnp.square(scores / config.attention_softcap), 0)
                more_q = _product("kqs,ksh->kqh", to_scores.astype(k.dtype), here)
                more_k, more_v = _turned(to_scores.astype(k.dtype), mine), _turned(weights.astype(v.dtype), slopes)
                return to_q + more_q, _add(to_k, more_k, place), _add(to_v, more_v, place)

            to_q, to_k, to_v = carry
            mine_too, to_k, to_v = jax.lax.fori_loop(first[at], at + 1, keys,
                                                     (jnp.zeros(mine.shape, jnp.float32), to_k, to_v))
            return to_q.at[at].set(mine_too), to_k, to_v

        zeros = tuple(jnp.zeros(each.shape, jnp.float32) for each in (q, k, v))
        return jax.lax.fori_loop(0, q.shape[0], queries, zeros)

    weighted = jnp.sum(slope.astype(jnp.float32) * out, axis=-1)
    to_q, to_k, to_v = jax.lax.map(row, (q, k, v, segment_ids, first, slope, normaliser, weighted))
    nothing = None if window is None else np.zeros((), jax.dtypes.float0)
    return (_unblocked(to_q, gradient.shape).astype(q.dtype), jnp.swapaxes(to_k, 1, 2).astype(k.dtype),
            jnp.swapaxes(to_v, 1, 2).astype(v.dtype), np.zeros(segment_ids.shape, jax.dtypes.float0), nothing)


attend.defvjp(_forward, _backward)


def _first(segment_ids: jax.Array, window: jax.Array | None, size: int) -> jax.Array:
    """[B, M]: the first block of keys that some query of each block may see; blocks of padding alone: their own."""
    blocks = segment_ids.reshape(segment_ids.shape[0], -1, size)
    most = jnp.iinfo(segment_ids.dtype).max
    low, high = jnp.where(blocks > 0, blocks, most).min(axis=-1), blocks.max(axis=-1)
    place = jnp.arange(blocks.shape[1])
    meets = (low[:, :, None] <= high[:, None, :]) & (low[:, None, :] <= high[:, :, None])
    if window is not None:
        gap = (place[:, None] - place - 1) * size + 1  # the least distance of two tokens of these blocks
        meets &= (window == 0) | (gap < window)
    meets |= place[:, None] == place
    return jnp.argmax(meets, axis=-1)


def _allowed(segments: jax.Array, window: jax.Array | None, at: jax.Array, place: jax.Array, size: int) -> jax.Array:
    """[C, C] boolean, for the queries of block `at` and the keys of block `place`."""
    mine, theirs = (jax.lax.dynamic_slice_in_dim(segments, each * size, size) for each in (at, place))
    distance = (at - place) * size + jnp.arange(size)[:, None] - jnp.arange(size)
    allowed = (distance >= 0) & (mine[:, None] == theirs) & (theirs > 0)
    return allowed if window is None else allowed & ((window == 0) | (distance < window))


def _scores(config: ModelConfig, q: jax.Array, k: jax.Array, allowed: jax.Array) -> jax.Array:
    """[K, G*C, C] float32 of q [K, G*C, H] and k [K, C, H]."""
    scores = _product("kqh,ksh->kqs", q, k)
    if config.attention_softcap:
        scores = config.attention_softcap * jnp.tanh(scores / config.attention_softcap)
    return jnp.where(jnp.tile(allowed, (q.shape[1] // allowed.shape[0], 1)), scores, MASKED)


def _product(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)


def _turned(a: jax.Array, b: jax.Array) -> jax.Array:
    """a [K, Q, S] and b [K, Q, H] -> [K, S, H], head by head: XLA has no fast product for this of several at once."""
    return jnp.stack([_product("qs,qh->sh", a[head], b[head]) for head in range(a.shape[0])])


def _blocks(array: jax.Array, size: int) -> jax.Array:
    """[B,T,K,G,H] -> [B, M, K, G*C, H], M blocks of C tokens."""
    b, t, k, g, h = array.shape
    return array.reshape(b, t // size, size, k, g, h).transpose(0, 1, 3, 4, 2, 5).reshape(b, t // size, k, g * size, h)


def _unblocked(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    b, t, k, g, h = shape
    blocks = array.shape[1]
    return array.reshape(b, blocks, k, g, t // blocks, h).transpose(0, 1, 4, 2, 3, 5).reshape(shape)


def _keys(array: jax.Array) -> jax.Array:
    return jnp.swapaxes(array, 1, 2)


def _part(array: jax.Array, place: jax.Array, size: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(array, place * size, size, axis=1)


def _add(total: jax.Array, more: jax.Array, place: jax.Array) -> jax.Array:
    size = more.shape[1]
    return jax.lax.dynamic_update_slice_in_dim(total, _part(total, place, size) + more, place * size, axis=1)
