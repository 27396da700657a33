"""The vocabulary's two ends: embeddings of tokens, and log-probabilities of tokens without the logits of a whole batch.

Each device holds a share of the table: some tokens (mesh axis tensor) and some of their features (fsdp). No table is
gathered to embed: a device looks up its share for the rows of its fsdp neighbours, and they swap. For the
log-probabilities each device makes the logits of its own tokens alone, some positions at a time; a maximum and two
sums over tensor join them (Megatron-LM, arXiv 1909.08053, section 3). Axis letters as in libra_jax/model/__init__.py.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from libra_jax.model.attention import precision
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules

TABLE = ("vocabulary", "model")


def embed(config: ModelConfig, table: jax.Array, tokens: jax.Array) -> jax.Array:
    """tokens [B, T] -> [B, T, D] in config.dtype, of a float32 table [V, D]."""
    where = rules.fit(TABLE, table.shape)
    rows = rules.fit(("batch", "stream"), tokens.shape)
    batch, fsdp = rows[0] or (), where[1]
    if rules.mesh() is None or (fsdp and fsdp not in batch):  # too few rows to swap
        return table[tokens].astype(config.dtype)
    time = rules.fit(("batch", "time"), tokens.shape)[1]
    scattered = rows[1] != time  # the residual stream is cut over tensor, too

    def local(table, tokens):
        if fsdp:
            tokens = jax.lax.all_gather(tokens, fsdp, axis=0, tiled=True)
        found = _own(table, tokens, where[0]).astype(config.dtype)
        if fsdp:
            found = jax.lax.all_to_all(found, fsdp, split_axis=0, concat_axis=2, tiled=True)
        if not where[0]:
            return found
        return (jax.lax.psum_scatter(found, where[0], scatter_dimension=1, tiled=True) if scattered
                else jax.lax.psum(found, where[0]))

    if not where[0]:
        rows, scattered = PartitionSpec(rows[0], time), False
    return jax.shard_map(local, mesh=rules.mesh(), in_specs=(where, PartitionSpec(rows[0], time)),
                         out_specs=PartitionSpec(*rows, None))(table, tokens)


def logits(config: ModelConfig, weight: jax.Array, x: jax.Array) -> jax.Array:
    """x [..., D] and weight [V, D] (tied) or [D, V] -> [..., V] in float32, softcapped where the config says so."""
    product = "...d,vd->...v" if config.tie_embeddings else "...d,dv->...v"
    out = jnp.einsum(product, x, weight.astype(x.dtype), precision=precision(config),
                     preferred_element_type=jnp.float32)
    return config.final_softcap * jnp.tanh(out / config.final_softcap) if config.final_softcap else out


def logprobs(config: ModelConfig, weight: jax.Array, x: jax.Array, targets: jax.Array, temperature: jax.Array | float,
             chunk: int, wanted: jax.Array | None = None) -> jax.Array:
    """[B, T] float32: log p(targets) by softmax(logits / temperature) of x [B, T, D].

    Where `wanted` [B, T] is False no logits are made, and the result is 0 (prompts and padding cost nothing). A device
    holds logits of `chunk` positions of each of its rows at a time, or of an eighth of them (chunk=0), in the gradient
    too, where they are computed again; the gradient of the weight is summed in float32. Not differentiable in
    temperature.
    """
    axes = TABLE if config.tie_embeddings else TABLE[::-1]
    w, rows = rules.fit(axes, weight.shape), rules.fit(("batch", "time"), targets.shape)
    vocabulary, fsdp = w[axes.index("vocabulary")], w[axes.index("model")]
    used = {axis for entry in rows for axis in (entry if isinstance(entry, tuple) else (entry,))} - {None}
    if fsdp not in used:  # too few rows: every device of fsdp does them all, with all of the weight
        fsdp, w = None, PartitionSpec(*(entry if entry == vocabulary else None for entry in w))
    varying = tuple(sorted(used | ({vocabulary} if vocabulary else set())))  # what differs between devices of these
    temperature = jnp.asarray(temperature, jnp.float32)
    wanted = jnp.ones(targets.shape, bool) if wanted is None else wanted

    def local(weight, x, targets, wanted, temperature):
        # Gradients are each device's own in _logprobs, and summed over the mesh on their way out.
        weight, temperature = _vary(weight, varying, w), _vary(temperature, varying, ())
        x, targets = _vary(x, varying, rows), _vary(targets, varying, rows)
        size = math.ceil(targets.size / 8) if not chunk else min(chunk * targets.shape[0], targets.size)
        order, parts = _in_parts(wanted.reshape(-1), size, tuple(sorted(used)))
        found = _logprobs(config, (vocabulary, fsdp, varying), size, weight, x.reshape(-1, x.shape[-1]),
                          targets.reshape(-1), order, parts, temperature)
        return jnp.where(wanted, found.reshape(targets.shape), 0.0)

    if rules.mesh() is None:
        return local(weight, x, targets, wanted, temperature)
    return jax.shard_map(local, mesh=rules.mesh(), in_specs=(w, PartitionSpec(*rows, None), rows, rows,
                         PartitionSpec()), out_specs=rows)(weight, x, targets, wanted, temperature)


def _in_parts(wanted: jax.Array, size: int, axes: tuple[str, ...]) -> tuple[jax.Array, jax.Array]:
    """Of wanted [n]: its places with the wanted ones first, and n behind them up to a multiple of `size`; and how many
    parts of `size` hold the wanted ones, the most of all devices along `axes`, so that all do as many."""
    order = jnp.argsort(~wanted, stable=True).astype(jnp.int32)
    order = jnp.pad(order, (0, -len(order) % size), constant_values=len(wanted))
    parts = -(-jnp.sum(wanted, dtype=jnp.int32) // size)
    return order, jax.lax.pmax(parts, axes) if axes else parts


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _logprobs(config: ModelConfig, axes: tuple[str | None, str | None, tuple[str, ...]], size: int,
              weight: jax.Array, x: jax.Array, targets: jax.Array, order: jax.Array, parts: jax.Array,
              temperature: jax.Array) -> jax.Array:
    """One device's part [n], of x [n, D] and targets [n]; 0 at places that are not in the first `parts` of `order`.

    `axes`: of the vocabulary, of the weight's model axis, and all that arrays vary on.
    """
    return _forward(config, axes, size, weight, x, targets, order, parts, temperature)[0]


def _gathered(config: ModelConfig, fsdp: str | None, weight: jax.Array, dtype: jnp.dtype) -> jax.Array:
    weight = weight.astype(dtype)
    return jax.lax.all_gather(weight, fsdp, axis=int(config.tie_embeddings), tiled=True) if fsdp else weight


def _forward(config, axes, size, shard, x, targets, order, parts, temperature):
    vocabulary, fsdp, varying = axes
    weight = _gathered(config, fsdp, shard, x.dtype)
    axis = 0 if config.tie_embeddings else 1

    def part(number, found):
        places = jax.lax.dynamic_slice_in_dim(order, number * size, size)
        scores = logits(config, weight, _take(x, places)) / temperature
        top = scores.max(axis=-1)
        top = jax.lax.pmax(top, vocabulary) if vocabulary else top
        total = jnp.exp(scores - top[:, None]).sum(axis=-1)
        place, inside = _place(weight.shape[axis], _take(targets, places), vocabulary)
        chosen = jnp.where(inside, jnp.take_along_axis(scores, place[:, None], axis=-1)[:, 0], 0.0)
        if vocabulary:
            total, chosen = jax.lax.psum((total, chosen), vocabulary)
        normaliser = top + jnp.log(total)
        return tuple(each.at[places].set(values, mode="drop")
                     for each, values in zip(found, (chosen - normaliser, normaliser), strict=True))

    along = tuple(name for name in varying if name != vocabulary)
    empty = _vary(jnp.zeros(targets.shape, jnp.float32), along, ())
    values, normaliser = jax.lax.fori_loop(0, parts, part, (empty, empty))
    return values, (shard, x, targets, order, parts, temperature, normaliser)


def _backward(config, axes, size, kept, gradient):
    shard, x, targets, order, parts, temperature, normaliser = kept
    vocabulary, fsdp, varying = axes
    weight = _gathered(config, fsdp, shard, x.dtype)
    axis = 0 if config.tie_embeddings else 1

    def add(number, found):
        to_weight, to_x = found
        places = jax.lax.dynamic_slice_in_dim(order, number * size, size)
        here = _take(x, places)
        scores, pull = jax.vjp(lambda x: logits(config, weight, x), here)
        place, inside = _place(weight.shape[axis], _take(targets, places), vocabulary)
        hit = (jnp.arange(weight.shape[axis]) == place[:, None]) & inside[:, None]
        share = jnp.exp(scores / temperature - _take(normaliser, places)[:, None])
        weighs = jnp.where(places < len(targets), _take(gradient, places), 0.0)
        slope = weighs[:, None] / temperature * (hit - share)
        (more,) = pull(slope)
        if config.final_softcap:
            slope = slope * (1 - jnp.square(scores / config.final_softcap))
        product = "nv,nd->vd" if config.tie_embeddings else "nv,nd->dv"
        to_weight += jnp.einsum(product, slope.astype(x.dtype), here, precision=precision(config),
                                preferred_element_type=jnp.float32)
        return to_weight, to_x.at[places].set(more, mode="drop")

    empty = tuple(_vary(jnp.zeros(*each), varying, ()) for each in ((weight.shape, jnp.float32), (x.shape, x.dtype)))
    to_weight, to_x = jax.lax.fori_loop(0, parts, add, empty)
    if fsdp:  # in float32: more exact, and what the TPU compiler takes in a loop over parts of a batch
        to_weight = jax.lax.psum_scatter(to_weight, fsdp, scatter_dimension=int(config.tie_embeddings), tiled=True)
    return to_weight.astype(shard.dtype), to_x, None, None, None, jnp.zeros_like(temperature)


_logprobs.defvjp(_forward, _backward)


def _take(array: jax.Array, places: jax.Array) -> jax.Array:
    """Rows of `array`; a place behind its end gives some row, whose result nobody keeps."""
    return array.at[places].get(mode="clip")


def _vary(array: jax.Array, varying: tuple[str, ...], spec: PartitionSpec | tuple[()]) -> jax.Array:
    """An array that is sharded by `spec`, as one that may differ along all axes `varying` (jax.shard_map's types)."""
    cut = {axis for entry in spec for axis in (entry if isinstance(entry, tuple) else (entry,))}
    missing = tuple(axis for axis in varying if axis not in cut)
    return jax.lax.pcast(array, missing, to="varying") if missing else array


def _place(size: int, tokens: jax.Array, vocabulary: str | None) -> tuple[jax.Array, jax.Array]:
    """(place of each token in this device's share of `size` tokens, whether it lies there)."""
    place = tokens - (jax.lax.axis_index(vocabulary) * size if vocabulary else 0)
    return jnp.clip(place, 0, size - 1), (place >= 0) & (place < size)


def _own(table: jax.Array, tokens: jax.Array, vocabulary: str | None) -> jax.Array:
    """The rows of this device's share of the table; zeros for tokens that lie in another's."""
    place, inside = _place(table.shape[0], tokens, vocabulary)
    return jnp.where(inside[..., None], table[place], 0.0)
