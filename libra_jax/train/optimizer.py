"""AdamW with warm-up, a schedule and clipping, over float32 master weights."""

from __future__ import annotations

import dataclasses
from typing import Literal

import optax


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Attributes:
    learning_rate: the peak.
    warmup_steps: steps of linear rise from 0.
    schedule: "constant", or "cosine" down to 0 at the last step.
    b1, b2, weight_decay: of AdamW.
    clip_norm: the gradient's largest global norm; 0 for no limit.
    """

    learning_rate: float = 1e-5
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 0.0
    clip_norm: float = 1.0


def make(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """The optax transformation for a run of `num_steps`. ValueError when the warm-up is longer than the run."""
    if config.learning_rate <= 0 or not 0 <= config.warmup_steps <= num_steps:
        raise ValueError(f"learning_rate={config.learning_rate}, warmup_steps={config.warmup_steps}: expected a "
                         f"positive rate and a warm-up of at most the {num_steps} steps of the run")
    rate = schedule(config, num_steps)
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, optax.adamw(rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay))


def schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Learning rate by step (from 0): after the warm-up the first step has the peak, without one it is step 0."""
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(config.learning_rate, max(num_steps - config.warmup_steps, 1))
    else:
        after = optax.constant_schedule(config.learning_rate)
    if not config.warmup_steps:
        return after
    # Step 0 learns too: the rise is from peak / (warm-up + 1), not from 0.
    rise = optax.linear_schedule(config.learning_rate / (config.warmup_steps + 1), config.learning_rate,
                                 config.warmup_steps)
    return optax.join_schedules([rise, after], [config.warmup_steps])
