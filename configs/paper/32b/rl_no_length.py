"""The row "SFT + RL, no length term" of the table "length".

    libra rl --workdir=runs/paper/32b/rl_no_length --config=configs/paper/32b/rl_no_length.py

A thought ends at 12,288 tokens at the latest; with L_expected there too the length term is always 0.

Before it: sft.py (sft/export), and sets/train.jsonl, in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4), the programs of rl.py. Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import rl

HERE = pathlib.Path(__file__).parent


def get_config() -> rl.Config:
    """rl.py without length term."""
    how = config.load(str(HERE / "rl.py"), rl.Config)
    return dataclasses.replace(how, grpo=dataclasses.replace(how.grpo, length_expected=12288, length_maximum=12288))
