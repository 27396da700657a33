"""The jitted programs of the engine: prefill, copies of pages, and the decode loop. Axis letters as in model/."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from libra_jax.model import cache as caches
from libra_jax.model import transformer
from libra_jax.model.cache import Cache, Leaf, Where
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules
from libra_jax.sampling import filters, watch
from libra_jax.sampling.watch import Watch

SEGMENT = 64  # most tokens a row decodes before the host looks


class Rows(NamedTuple):
    """The decoding state of the rows, each [B]: `token` stands at `position` and is fed next."""

    token: Leaf
    position: Leaf
    count: Leaf  # tokens drawn so far
    most: Leaf  # tokens that may be drawn
    done: Leaf
    key: Leaf  # [B, 2]: the data of the row's key
    table: Leaf  # [B, M]: the row's pages


class Found(NamedTuple):
    """What a call of `decode` found, for the host: of row b the first (count - count before) entries are drawn ones."""

    tokens: jax.Array  # int32 [SEGMENT, B]
    logprobs: jax.Array  # float32 [SEGMENT, B]
    count: jax.Array  # [B]
    done: jax.Array  # [B]
    matched: jax.Array | None  # [B], of a Watch


@functools.partial(jax.jit, static_argnums=0, donate_argnames="cache")
def prefill(config: ModelConfig, params: Any, cache: Cache, tokens: jax.Array, where: Where) -> Cache:
    """The cache with the keys and values of a chunk [B, T] of prompts, whose earlier chunks it holds."""
    tokens = rules.constrain(tokens, ("batch", None))
    return transformer.extend(config, params, tokens, cache, where)[1]


@functools.partial(jax.jit, static_argnums=0, donate_argnames="cache")
def copy_pages(config: ModelConfig, cache: Cache, source: jax.Array, target: jax.Array) -> Cache:
    """Each device group copies pages source [ways, n] to target [ways, n] of its own; a target beyond them: nothing."""
    def local(pages, source, target):
        return pages.at[:, target[0]].set(pages[:, source[0]], mode="drop")

    if rules.mesh() is None:
        return cache._replace(pages=local(cache.pages, source, target))
    held = caches.fit(config, cache.pages.shape[1], bool(cache.scale.size)).pages
    mine = jax.P(held[1], None)
    run = jax.shard_map(local, mesh=rules.mesh(), in_specs=(held, mine, mine), out_specs=held, check_vma=False)
    return cache._replace(pages=run(cache.pages, source, target))


@functools.partial(jax.jit, static_argnums=0, static_argnames=("greedy", "top_k", "top_p", "tile"),
                   donate_argnames="cache")
def decode(config: ModelConfig, params: Any, rows: Rows, cache: Cache, watched: Watch | None, *, limit: jax.Array,
           floor: jax.Array, temperature: jax.Array, stop_ids: jax.Array, greedy: bool, top_k: int, top_p: float,
           tile: int) -> tuple[Cache, Found]:
    """Decodes until `limit` (at most SEGMENT) tokens are drawn or no more than `floor` rows [B] still run.

    `tile` rows at a time, up to the last that still runs; 0: all at once.
    """
    shape = (SEGMENT, rows.token.shape[0])

    def draw(rows: Rows, cache: Cache, random: jax.Array) -> tuple[jax.Array, jax.Array, Cache]:
        """The next token of each row, its log-probability, and the cache; `random` [B, 2] between 0 and 1."""
        where = Where(rows.table, rows.position, (~rows.done).astype(jnp.int32))
        logits, cache = transformer.extend(config, params, rows.token[:, None], cache, where)
        logits = logits[:, 0].astype(jnp.float32)
        if greedy:
            drawn = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        else:
            drawn = filters.draw(filters.apply(logits, temperature, top_k, top_p), random)
        chosen = jnp.take_along_axis(logits, drawn[:, None], axis=-1)[:, 0]
        return drawn, chosen - jax.nn.logsumexp(logits, axis=-1), cache

    next_tokens = _tiled(draw, tile) if tile else draw

    def running(carry):
        return (carry[0] < limit) & (jnp.sum(~carry[1].done) > floor)

    def body(carry):
        step, rows, cache, watched, tokens, logprobs = carry
        live = ~rows.done
        drawn, logprob, cache = next_tokens(rows, cache, random[step])
        tokens = tokens.at[step].set(drawn)
        logprobs = logprobs.at[step].set(logprob)
        count, stopped = rows.count + live, jnp.isin(drawn, stop_ids)
        done = rows.done | stopped | (count >= rows.most)
        if watched is not None:
            watched, needless = watch.step(watched, drawn, live, stopped)
            done |= needless
        rows = rows._replace(token=jnp.where(live, drawn, rows.token), position=rows.position + live, count=count,
                             done=done)
        return step + 1, rows, cache, watched, tokens, logprobs

    rows = Rows(*(rules.constrain(each, ("batch", None)[: each.ndim]) for each in rows))
    random = _random(rows, SEGMENT)  # at once: in the loop it would cost as much as a layer
    start = (0, rows, cache, watched, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))
    _, rows, cache, watched, tokens, logprobs = jax.lax.while_loop(running, body, start)
    # Whole on every device, since no process could read the rows of another.
    found = Found(tokens, logprobs, rows.count, rows.done, None if watched is None else watched.matched)
    return cache, jax.tree.map(lambda each: rules.constrain(each, (None,) * each.ndim), found)


def _tiled(draw: Callable, tile: int) -> Callable:
    """`draw`, `tile` rows at a time, up to the last row that still runs."""
    def tiled(rows: Rows, cache: Cache, random: jax.Array) -> tuple[jax.Array, jax.Array, Cache]:
        def body(carry):
            index, cache, *results = carry
            part, own = jax.tree.map(lambda each: jax.lax.dynamic_slice_in_dim(each, index * tile, tile),
                                     (rows, random))
            *found, cache = draw(part, cache, own)
            results = [jax.lax.dynamic_update_slice_in_dim(whole, each, index * tile, 0)
                       for whole, each in zip(results, found, strict=True)]
            return index + 1, cache, *results

        size = len(rows.done)
        last = jnp.max(jnp.where(rows.done, -1, jnp.arange(size)))
        init = (0, cache, jnp.zeros(size, jnp.int32), jnp.zeros(size, jnp.float32))
        _, cache, drawn, logprob = jax.lax.while_loop(lambda carry: carry[0] * tile <= last, body, init)
        return drawn, logprob, cache

    return tiled


def _random(rows: Rows, steps: int) -> jax.Array:
    """[steps, B, 2] between 0 and 1: for the tokens number count, count + 1, ... of each row, by its key."""
    def one(key, number):
        return jax.random.uniform(jax.random.fold_in(key, number), (2,))

    numbers = rows.count[:, None] + jnp.arange(steps)
    found = jax.vmap(jax.vmap(one, (None, 0)))(jax.random.wrap_key_data(rows.key), numbers)
    return rules.constrain(jnp.swapaxes(found, 0, 1), (None, "batch", None))


@jax.jit
def keys(seed: jax.Array, pairs: jax.Array) -> jax.Array:
    """The data [B, 2] of the keys of (id, sample) pairs [B, 2] uint32."""
    key = jax.random.key(seed)
    found = jax.vmap(lambda pair: jax.random.fold_in(jax.random.fold_in(key, pair[0]), pair[1]))(pairs)
    return jax.random.key_data(found)
