"""The next token: filters of its logits (temperature, top-k, top-p), and the draw. Pure functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

BLOCK = 128  # tokens of the vocabulary among which the second random number chooses


def apply(logits: jax.Array, temperature: float | jax.Array = 1.0, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
    """Logits [B, V] -> float32 [B, V] of the distribution to draw from, by temperature, then top-k, then top-p.

    Temperature divides and must be positive (a greedy choice is the caller's argmax). `top_k` 0 and `top_p` 1 keep
    all. Top-p (Holtzman et al. 2020, nucleus sampling) keeps the smallest set of most likely tokens whose probability
    reaches `top_p`; the most likely token always stays. Tokens that tie with the last kept one stay too, so the result
    does not depend on the order of a sort. `top_k` and `top_p` are Python numbers; ValueError outside their range.
    """
    check(top_k, top_p)
    logits = logits.astype(jnp.float32) / temperature
    if 0 < top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    if top_p < 1.0:
        ordered = jnp.sort(logits, axis=-1, descending=True)
        probabilities = jax.nn.softmax(ordered, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities  # mass of the strictly better ones
        kept = (before < top_p).at[..., 0].set(True)
        least = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    return logits


def check(top_k: int, top_p: float) -> None:
    """Raises ValueError for a `top_k` below 0 or a `top_p` outside (0, 1]."""
    if top_k < 0:
        raise ValueError(f"top_k={top_k}: expected 0 (off) or a positive count")
    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p={top_p}: expected a number above 0 and at most 1 (1 is off)")


def draw(logits: jax.Array, random: jax.Array) -> jax.Array:
    """Tokens [B] int32 from softmax(logits [B, V]), by numbers random [B, 2] in [0, 1); what is -inf is never drawn.

    By the inverse of the distribution function, first of blocks of tokens and then within the block: two random numbers
    a row, where Gumbel noise would take one for each token of the vocabulary.
    """
    rows, size = logits.shape
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.pad(weights, ((0, 0), (0, -size % BLOCK))).reshape(rows, -1, BLOCK)
    block = _inverse(jnp.sum(weights, axis=-1), random[:, 0])
    inside = jnp.take_along_axis(weights, block[:, None, None], axis=1)[:, 0]
    return block * BLOCK + _inverse(inside, random[:, 1])


def _inverse(weights: jax.Array, random: jax.Array) -> jax.Array:
    """[B] int32: where the running sum of weights [B, n] first exceeds the share random [B] of the whole."""
    sums = jnp.cumsum(weights, axis=-1)
    found = jnp.sum(sums <= random[:, None] * sums[:, -1:], axis=-1)
    last = weights.shape[-1] - 1 - jnp.argmax(weights[:, ::-1] > 0, axis=-1)  # rounding may reach the whole
    return jnp.minimum(found, last).astype(jnp.int32)
