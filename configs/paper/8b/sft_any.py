"""The row "SFT on any judgement" of the table "rejection": what the base said first, right or wrong.

    libra sft --workdir=runs/paper/8b/sft_any --config=configs/paper/8b/sft_any.py

As sft.py; what rejection sampling is worth is the difference of the two.

Before it: reject.py, so base/, sets/train.jsonl and reject/judgements.jsonl in runs/paper/8b.
Hardware: 64 chips of v6e (v6e:8x8), the programs of sft.py. Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import sft

HERE = pathlib.Path(__file__).parent


def get_config() -> sft.Config:
    """sft.py on the first parsed judgement of each example."""
    how = config.load(str(HERE / "sft.py"), sft.Config)
    return dataclasses.replace(how, learn="any", kept="runs/paper/8b/reject/judgements.jsonl")
