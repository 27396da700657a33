"""The row "SFT + RL, other data too" of the table "non_judging": a fifth of the groups solve problems.

    libra rl --workdir=runs/paper/8b/rl_other_data --config=configs/paper/8b/rl_other_data.py

The groups of a step stay those of rl.py, so that judging gets so much less.

Before it: sft_other_data.py (its export), sets/train.jsonl and other.jsonl in runs/paper/8b.
Hardware: 64 chips of v6e (v6e:8x8), the programs of rl.py. Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import rl

HERE = pathlib.Path(__file__).parent


def get_config() -> rl.Config:
    """rl.py over two kinds of data."""
    return dataclasses.replace(
        config.load(str(HERE / "rl.py"), rl.Config),
        checkpoint="runs/paper/8b/sft_other_data/export",
        problems="runs/paper/8b/other.jsonl",
        weights=(0.8, 0.0, 0.2),
    )
