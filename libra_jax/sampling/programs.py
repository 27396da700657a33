"""The jitted programs of the engine: prefill, regrouping of rows, and the decode loop. Axis letters as in model/."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from libra_jax.model import cache as kv_cache
from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules
from libra_jax.sampling import filters

SEGMENT = 64  # most tokens a row decodes before the host looks


class Rows(NamedTuple):
    """The decoding state of the rows, each [B]: `token` stands at `position` and is fed next."""

    token: jax.Array
    position: jax.Array
    count: jax.Array  # tokens drawn so far
    done: jax.Array
    key: jax.Array  # [B, 2]: the data of the row's key


@functools.partial(jax.jit, static_argnums=0)
def prefill(config: ModelConfig, params: Any, tokens: jax.Array) -> kv_cache.Cache:
    """The cache of right-padded prompts [B, T]; what padding writes is overwritten before a query reaches it."""
    tokens = rules.constrain(tokens, ("batch", None))
    cache = _constrain(kv_cache.init(config, *tokens.shape))
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return _constrain(transformer.apply(config, params, tokens, positions=positions, cache=cache, fresh=True)[1])


@functools.partial(jax.jit, static_argnames="length")
def regroup(rows: Rows, cache: kv_cache.Cache, keep: jax.Array, pick: jax.Array, *, length: int
            ) -> tuple[Rows, kv_cache.Cache]:
    """Rows `keep` of `rows` and rows `pick` of `cache`, which becomes `length` slots long.

    Layer by layer, since devices that exchange rows may each hold all rows of a layer meanwhile.
    """
    def move(layer: jax.Array) -> jax.Array:
        return rules.constrain(_lengthen(layer[pick, :length], length), kv_cache.AXES[1:])

    cache = kv_cache.Cache(*(jax.lax.map(move, part) for part in cache))
    rows = jax.tree.map(lambda row: rules.constrain(row[keep], ("batch", None)[: row.ndim]), rows)
    return rows, _constrain(cache)


@functools.partial(jax.jit, static_argnames="length")
def lengthen(cache: kv_cache.Cache, *, length: int) -> kv_cache.Cache:
    """The cache with `length` slots; the new ones are empty."""
    return _constrain(kv_cache.Cache(*(_lengthen(part, length) for part in cache)))


def _lengthen(part: jax.Array, length: int) -> jax.Array:
    """[..., S, K, H] -> [..., length, K, H]."""
    axis = part.ndim - 3
    return jnp.pad(part, [(0, length - part.shape[axis] if each == axis else 0) for each in range(part.ndim)])


@functools.partial(jax.jit, static_argnums=0, static_argnames=("greedy", "top_k", "top_p"), donate_argnames="cache")
def decode(config: ModelConfig, params: Any, rows: Rows, cache: kv_cache.Cache, *, limit: jax.Array, floor: jax.Array,
           max_new_tokens: jax.Array, temperature: jax.Array, stop_ids: jax.Array, greedy: bool, top_k: int,
           top_p: float) -> tuple[Rows, kv_cache.Cache, tuple[jax.Array, ...]]:
    """Decodes until `limit` (at most SEGMENT) tokens are drawn or no more than `floor` rows [B] still run.

    Returns the rows, the cache, and for the host (tokens int32 [SEGMENT, B], log-probabilities float32 [SEGMENT, B],
    positions [B], done [B]): of row b the first (new position - old position) entries are drawn ones.
    """
    shape = (SEGMENT, rows.token.shape[0])

    def running(carry):
        return (carry[0] < limit) & (jnp.sum(~carry[1].done) > floor)

    def body(carry):
        step, rows, cache, tokens, logprobs = carry
        logits, cache = transformer.apply(config, params, rows.token[:, None], positions=rows.position[:, None],
                                          cache=cache)
        logits = logits[:, 0].astype(jnp.float32)
        scores = logits
        if not greedy:
            noise = jax.vmap(lambda key, count: jax.random.gumbel(jax.random.fold_in(key, count), logits.shape[1:]))
            scores = filters.apply(logits, temperature, top_k, top_p) + noise(
                jax.random.wrap_key_data(rows.key), rows.count)
        drawn = jnp.argmax(scores, axis=-1).astype(jnp.int32)
        chosen = jnp.take_along_axis(logits, drawn[:, None], axis=-1)[:, 0]
        tokens = tokens.at[step].set(drawn)
        logprobs = logprobs.at[step].set(chosen - jax.nn.logsumexp(logits, axis=-1))
        live = ~rows.done
        count = rows.count + live
        rows = Rows(jnp.where(live, drawn, rows.token), rows.position + live, count,
                     rows.done | jnp.isin(drawn, stop_ids) | (count >= max_new_tokens), rows.key)
        return step + 1, rows, cache, tokens, logprobs

    start = (0, rows, cache, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))
    _, rows, cache, tokens, logprobs = jax.lax.while_loop(running, body, start)
    # Whole on every device, since no process could read the rows of another.
    found = (rules.constrain(each, (None,) * each.ndim) for each in (tokens, logprobs, rows.position, rows.done))
    return rows, cache, tuple(found)


@jax.jit
def keys(seed: jax.Array, pairs: jax.Array) -> jax.Array:
    """The data [B, 2] of the keys of (id, sample) pairs [B, 2] uint32."""
    key = jax.random.key(seed)
    found = jax.vmap(lambda pair: jax.random.fold_in(jax.random.fold_in(key, pair[0]), pair[1]))(pairs)
    return jax.random.key_data(found)


def _constrain(cache: kv_cache.Cache) -> kv_cache.Cache:
    return kv_cache.Cache(*(rules.constrain(part, kv_cache.AXES) for part in cache))
