"""The row "SFT": Qwen2.5-32B learns the judgements that rejection sampling kept.

    libra sft --workdir=runs/paper/32b/sft --config=configs/paper/32b/sft.py
    libra sft --workdir=runs/paper/32b/sft_on_NAME --config=configs/paper/32b/sft.py --config.policies=NAME

The second is the row "SFT on NAME" of the table "transfer": judgements of one policy's responses alone. What is trained
and how is configs/libra_rm_32b_sft.py: rows of 16,384 tokens hold a prompt of 4,096 and a thought of 12,288, and 64 of
them a step are a million tokens.

Before it: reject.py, so base/, sets/train.jsonl and reject/kept.jsonl in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4; docs/paper.md has the plan). Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import sft

CONFIGS = pathlib.Path(__file__).parents[2]


def get_config() -> sft.Config:
    """The shipped recipe, with this row's inputs."""
    return dataclasses.replace(
        config.load(str(CONFIGS / "libra_rm_32b_sft.py"), sft.Config),
        checkpoint="runs/paper/32b/base",
        examples="runs/paper/32b/sets/train.jsonl",
        kept="runs/paper/32b/reject/kept.jsonl",
    )
