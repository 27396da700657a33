"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Metrics = dict[str, jax.Array]


def loss(chosen: jax.Array, rejected: jax.Array, reference_chosen: jax.Array, reference_rejected: jax.Array, *,
         beta: float, denominator: jax.Array | float | None = None) -> tuple[jax.Array, Metrics]:
    """Mean of -log sigmoid(beta * margin), margin = (chosen - rejected) - (reference_chosen - reference_rejected).

    Args:
      chosen, rejected, reference_chosen, reference_rejected: [B] float32, summed log-probabilities of whole responses.
      beta: strength of the tie to the reference.
      denominator: pairs in the whole global batch; default B.

    Worked: with all four equal the margin is 0 and the loss log 2, whatever beta.
    """
    margin = (chosen - rejected) - (reference_chosen - reference_rejected)
    count = chosen.shape[0] if denominator is None else denominator
    total = -jnp.sum(jax.nn.log_sigmoid(beta * margin)) / count
    return total, {"loss": total, "margin": jnp.sum(margin) / count, "accuracy": jnp.sum(margin > 0) / count}
