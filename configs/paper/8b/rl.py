"""The row "SFT + RL": GRPO of the SFT'd judge on the labels of sets/train.jsonl.

    libra rl --workdir=runs/paper/8b/rl --config=configs/paper/8b/rl.py

What is trained and how is configs/libra_rm_8b_rl.py: 64 groups of 8 thoughts a step, enough that a step has useful
groups when most are all right or all wrong. Thoughts of up to 8,192 tokens are free (L_expected); the penalty is 1,
as much as a right verdict is worth, at 12,288 (L_max), where a thought is cut off.

Before it: sft.py (sft/export), and sets/train.jsonl, in runs/paper/8b.
Hardware: 64 chips of v6e (v6e:8x8; docs/paper.md has the plan). Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import rl

CONFIGS = pathlib.Path(__file__).parents[2]


def get_config() -> rl.Config:
    """The shipped recipe, with this row's inputs."""
    return dataclasses.replace(
        config.load(str(CONFIGS / "libra_rm_8b_rl.py"), rl.Config),
        checkpoint="runs/paper/8b/sft/export",
        examples="runs/paper/8b/sets/train.jsonl",
    )
