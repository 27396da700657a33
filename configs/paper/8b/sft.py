"""The row "SFT": Qwen3-8B learns the judgements that rejection sampling kept.

    libra sft --workdir=runs/paper/8b/sft --config=configs/paper/8b/sft.py
    libra sft --workdir=runs/paper/8b/sft_on_NAME --config=configs/paper/8b/sft.py --config.policies=NAME

The second is the row "SFT on NAME" of the table "transfer": judgements of one policy's responses alone. What is trained
and how is configs/libra_rm_8b_sft.py: rows of 16,384 tokens hold a prompt of 4,096 and a thought of 12,288, and 64 of
them a step are a million tokens.

Before it: reject.py, so base/, sets/train.jsonl and reject/kept.jsonl in runs/paper/8b.
Hardware: 64 chips of v6e (v6e:8x8; docs/paper.md has the plan). Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import sft

CONFIGS = pathlib.Path(__file__).parents[2]


def get_config() -> sft.Config:
    """The shipped recipe, with this row's inputs."""
    return dataclasses.replace(
        config.load(str(CONFIGS / "libra_rm_8b_sft.py"), sft.Config),
        checkpoint="runs/paper/8b/base",
        examples="runs/paper/8b/sets/train.jsonl",
        kept="runs/paper/8b/reject/kept.jsonl",
    )
