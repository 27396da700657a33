"""Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300), with the variations of later work.

Separate clips and token-level normalisation over the global batch: DAPO (arXiv 2503.14476). Advantages by the mean
alone: Dr. GRPO (arXiv 2503.20783). Truncated importance weights between sampler and trainer: TIS (Yao et al. 2025).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Metrics = dict[str, jax.Array]


def advantages(rewards: jax.Array | np.ndarray, *, normalise: Literal["std", "mean"] = "std") -> jax.Array:
    """[G, n] rewards of n samples in each of G groups -> [G, n] float32 advantages.

    "std": (r - mean) / std of the group (arXiv 2402.03300, section 4.1.2), and 0 for a group of equal rewards; "mean":
    r - mean. Worked: rewards (1, 0, 0, 1) give (1, -1, -1, 1) by std and half of that by mean.
    """
    if normalise not in ("std", "mean"):
        raise ValueError(f"normalise={normalise!r}: expected 'std' or 'mean'")
    rewards = jnp.asarray(rewards)
    centred = rewards - jnp.mean(rewards, axis=1, keepdims=True)
    if normalise == "mean":
        return centred.astype(jnp.float32)
    std = jnp.std(rewards, axis=1, keepdims=True)
    return jnp.where(std > 1e-6, centred / jnp.maximum(std, 1e-6), 0.0).astype(jnp.float32)


def loss(logprobs: jax.Array, old_logprobs: jax.Array, sampler_logprobs: jax.Array, advantages: jax.Array,
         mask: jax.Array, *, reference_logprobs: jax.Array | None = None, clip_low: float = 0.2,
         clip_high: float = 0.28, kl_weight: float = 0.0, importance_cap: float = 2.0,
         denominator: jax.Array | float) -> tuple[jax.Array, Metrics]:
    """Clipped policy-gradient loss summed over masked tokens and divided by `denominator`.

    A token's term is -w min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) + kl_weight k3, where
    rho = exp(logprobs - old_logprobs), w = min(exp(old_logprobs - sampler_logprobs), importance_cap) without gradient,
    and k3 = exp(d) - d - 1 with d = reference_logprobs - logprobs.

    Args:
      logprobs: [B, T] float32, of the policy that is trained; the only input with a gradient.
      old_logprobs: [B, T], the trainer's own, of the parameters that sampled.
      sampler_logprobs: [B, T], what the sampler said of the same tokens.
      advantages: [B, T] (a sample's advantage on each of its tokens); mask: [B, T] bool, the sampled tokens.
      reference_logprobs: [B, T]; needed where kl_weight is not 0.
      denominator: sampled tokens of the whole global batch.

    Of |old_logprobs - sampler_logprobs| the metrics give the mean, the 99th percentile (of a batch in parts the mean of
    the parts', by tokens), and the largest.

    Worked: rho = 1.5, A = 2, clip_high = 0.28, w = 1 and denominator 1 give -2.56; rho = 1.5, A = -2 give +3.
    """
    old, sampler = jax.lax.stop_gradient((old_logprobs, sampler_logprobs))
    ratio = jnp.exp(jnp.where(mask, logprobs - old, 0.0))
    weight = jnp.minimum(jnp.exp(jnp.where(mask, old - sampler, 0.0)), importance_cap)
    clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    terms = -weight * jnp.minimum(ratio * advantages, clipped * advantages)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(mask, values, 0.0)) / denominator

    mismatch, share = jnp.abs(old - sampler), jnp.sum(mask) / denominator
    metrics = {
        "policy_loss": mean(terms),
        "clipped": mean((ratio * advantages > clipped * advantages).astype(jnp.float32)),
        "sampler_mismatch": mean(mismatch),
        "sampler_mismatch_p99": jnp.nan_to_num(jnp.nanquantile(jnp.where(mask, mismatch, jnp.nan), 0.99)) * share,
        "sampler_mismatch_max": jnp.max(jnp.where(mask, mismatch, 0.0)),
        "surprise": mean(-logprobs),
    }
    total = metrics["policy_loss"]
    if kl_weight:
        if reference_logprobs is None:
            raise ValueError(f"kl_weight={kl_weight} needs reference_logprobs; give them, or set kl_weight=0")
        difference = jnp.where(mask, jax.lax.stop_gradient(reference_logprobs) - logprobs, 0.0)
        metrics["kl"] = mean(jnp.exp(difference) - difference - 1.0)
        total = total + kl_weight * metrics["kl"]
    return total, metrics | {"loss": total}
