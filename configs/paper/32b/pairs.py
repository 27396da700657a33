"""Pairs of the policy's answers, ordered by a judge: the tables "unlabelled" and "correlation".

    libra downstream --workdir=runs/paper/32b/pairs/NAME --config=configs/paper/32b/pairs.py \
        --config.judge.checkpoint=runs/paper/32b/NAME/export

The judge votes as on the bench. "base, no thought" and "SFT, no thought" want --config.judge.thinking=false.

Before it: answers.py and the row NAME; unanswered.jsonl and answers/rollouts.jsonl in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4), 16 copies of the judge. Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import downstream, judge

HERE = pathlib.Path(__file__).parent


def get_config() -> downstream.Config:
    """The downstream stage's config; the judge is given on the command line."""
    return downstream.Config(
        problems="runs/paper/32b/unanswered.jsonl",
        rollouts="runs/paper/32b/answers/rollouts.jsonl",
        judge=dataclasses.replace(config.load(str(HERE / "judge.py"), judge.Config), examples=""),
    )
