"""The vocabulary's two ends: log-probabilities of given tokens without ever holding the logits of a whole batch.

The vocabulary lies over the mesh axis tensor, so each device holds logits of its own tokens alone and of `chunk`
positions at a time; a maximum and two sums over tensor make them log-probabilities (Megatron-LM, arXiv 1909.08053,
section 3).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from libra_jax.model.attention import precision
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules


def logits(config: ModelConfig, weight: jax.Array, x: jax.Array) -> jax.Array:
    """x [..., D] and weight [V, D] (tied) or [D, V] -> [..., V] in float32, softcapped where the config says so."""
    product = "...d,vd->...v" if config.tie_embeddings else "...d,dv->...v"
    out = jnp.einsum(product, x, weight.astype(x.dtype), precision=precision(config),
                     preferred_element_type=jnp.float32)
    return config.final_softcap * jnp.tanh(out / config.final_softcap) if config.final_softcap else out


def logprobs(config: ModelConfig, weight: jax.Array, x: jax.Array, targets: jax.Array, temperature: jax.Array | float,
             chunk: int) -> jax.Array:
    """[B, T] float32: log p(targets) by softmax(logits / temperature) of x [B, T, D].

    `chunk` > 0 holds logits of so many positions of each row at a time, in the gradient too, where they are computed
    again. ValueError when it does not divide the positions that a device holds.
    """
    axes = ("vocabulary", "model") if config.tie_embeddings else ("model", "vocabulary")
    w, t = rules.fit(axes, weight.shape), rules.fit(("batch", "time"), targets.shape)
    mesh = rules.mesh()
    local = functools.partial(_local, config, chunk=chunk, vocabulary=w[axes.index("vocabulary")],
                              model=w[axes.index("model")])
    temperature = jnp.asarray(temperature, jnp.float32)
    # Cast where the weight lies and gathered in that dtype; gradients of the chunks are added in float32.
    weight = weight.astype(x.dtype)
    if mesh is None:
        return local(weight, x, targets, temperature)
    run = jax.shard_map(local, mesh=mesh, in_specs=(w, PartitionSpec(*t, None), t, PartitionSpec()), out_specs=t)
    return run(weight, x, targets, temperature)


def _local(config: ModelConfig, weight: jax.Array, x: jax.Array, targets: jax.Array, temperature: jax.Array, *,
           chunk: int, vocabulary: str | None, model: str | None) -> jax.Array:
    """One device's part: its rows and positions, and its share of the vocabulary where that is sharded."""
    if model:
        weight = jax.lax.all_gather(weight, model, axis=int(config.tie_embeddings), tiled=True)
    weight = weight.astype(jnp.float32)
    size = weight.shape[0 if config.tie_embeddings else 1]
    first = jax.lax.axis_index(vocabulary) * size if vocabulary else 0

    def score(part):
        x, targets = part
        scores = logits(config, weight, x) / temperature
        top = jax.lax.stop_gradient(scores.max(axis=-1))
        top = jax.lax.pmax(top, vocabulary) if vocabulary else top
        total = jnp.exp(scores - top[..., None]).sum(axis=-1)
        place = targets - first
        inside = (place >= 0) & (place < size)
        chosen = jnp.take_along_axis(scores, jnp.clip(place, 0, size - 1)[..., None], axis=-1)[..., 0]
        chosen = jnp.where(inside, chosen - top, 0.0)
        if vocabulary:
            total, chosen = jax.lax.psum((total, chosen), vocabulary)
        return chosen - jnp.log(total)

    b, t = targets.shape
    if not chunk or chunk >= t:
        return score((x, targets))
    if t % chunk:
        raise ValueError(f"chunk={chunk} does not divide the {t} positions of a row that a device holds")
    parts = tuple(jnp.moveaxis(each.reshape(b, t // chunk, chunk, *each.shape[2:]), 1, 0) for each in (x, targets))
    return jnp.moveaxis(jax.lax.map(jax.checkpoint(score), parts), 0, 1).reshape(b, t)
