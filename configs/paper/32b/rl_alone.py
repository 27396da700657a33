"""The row "RL alone" of the table "stages": rl.py from the base, without SFT before it.

    libra rl --workdir=runs/paper/32b/rl_alone --config=configs/paper/32b/rl_alone.py

The base must end its thought in a verdict often enough that some groups differ; `unparsed` in the first rows of
metrics.jsonl says how often it does.

Before it: base/ and sets/train.jsonl in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4), the programs of rl.py. Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import rl

HERE = pathlib.Path(__file__).parent


def get_config() -> rl.Config:
    """rl.py from the base."""
    how = config.load(str(HERE / "rl.py"), rl.Config)
    return dataclasses.replace(how, checkpoint="runs/paper/32b/base")
