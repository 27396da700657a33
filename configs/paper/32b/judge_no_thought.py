"""The votes of a judge that gives its verdict at once: the rows "base, no thought" and "SFT, no thought".

    libra judge --workdir=runs/paper/32b/judge/NAME --config=configs/paper/32b/judge_no_thought.py \
        --config.checkpoint=runs/paper/32b/NAME/export --config.name=NAME

judge.py with an empty thought.

Before it: base/ or sft_no_thought.py, and sets/bench.jsonl, in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4), 16 copies of the judge. Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import judge

HERE = pathlib.Path(__file__).parent


def get_config() -> judge.Config:
    """judge.py without thinking; the judge is given on the command line."""
    return dataclasses.replace(config.load(str(HERE / "judge.py"), judge.Config), thinking=False)
