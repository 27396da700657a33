"""The row "SFT, other data too" of the table "non_judging": a fifth of what is learned are solutions.

    libra sft --workdir=runs/paper/8b/sft_other_data --config=configs/paper/8b/sft_other_data.py

The steps and their sizes stay those of sft.py. The solutions are right answers of the base itself to problems that no
judge is measured on, so that what is learned is to go on solving, not to solve better.

Before it: reject.py, and rollout.py of the base on other.jsonl, decided by `libra verify`; sets/train.jsonl and
other.jsonl (problems with answers, none of problems.jsonl) in runs/paper/8b.
Hardware: 64 chips of v6e (v6e:8x8), the programs of sft.py. Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import sft

HERE = pathlib.Path(__file__).parent


def get_config() -> sft.Config:
    """sft.py with solutions beside the judgements."""
    return dataclasses.replace(
        config.load(str(HERE / "sft.py"), sft.Config),
        problems="runs/paper/8b/other.jsonl",
        solutions="runs/paper/8b/other/verified.jsonl",
        solution_share=0.2,
    )
