"""The row "SFT + RL, length 2048 to 8192" of the table "length": a term that bites.

    libra rl --workdir=runs/paper/8b/rl_short --config=configs/paper/8b/rl_short.py

rl.py lets thoughts of up to 8,192 tokens be free, and a judge that stays below never feels it. Here a thought of 5,120
tokens already costs half of what a right verdict gives.

Before it: sft.py (sft/export), and sets/train.jsonl, in runs/paper/8b.
Hardware: 64 chips of v6e (v6e:8x8), the programs of rl.py. Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import rl

HERE = pathlib.Path(__file__).parent


def get_config() -> rl.Config:
    """rl.py with a penalty that begins at a quarter of the tokens."""
    how = config.load(str(HERE / "rl.py"), rl.Config)
    return dataclasses.replace(how, grpo=dataclasses.replace(how.grpo, length_expected=2048, length_maximum=8192))
