"""Supervised fine-tuning: cross-entropy on the judge's own tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Metrics = dict[str, jax.Array]


def loss(token_logprobs: jax.Array, loss_mask: jax.Array, denominator: jax.Array | float) -> tuple[jax.Array, Metrics]:
    """Minus the sum of the masked log-probabilities over `denominator`.

    Args:
      token_logprobs: [B, T] float32, log p of each token given those before it.
      loss_mask: [B, T] bool; masked-out tokens get exactly zero gradient, even where their log-probability is infinite.
      denominator: number of trained tokens of the whole global batch, so that parts of a batch add up to it.

    Worked: log-probabilities (-1, -2, -9) with mask (1, 1, 0) and denominator 2 give 1.5.
    """
    total = -jnp.sum(jnp.where(loss_mask, token_logprobs, 0.0)) / denominator
    return total, {"loss": total}
