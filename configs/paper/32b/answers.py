"""Answers of the policy that judges shall improve, Qwen3-8B, to problems without answers.

    libra rollout --workdir=runs/paper/32b/answers --config=configs/paper/32b/answers.py
    libra rollout --workdir=runs/paper/32b/solved/NAME --config=configs/paper/32b/answers.py \
        --config.problems=runs/paper/32b/held_out.jsonl --config.checkpoint=runs/paper/32b/dpo/NAME/export

The second is its accuracy after it learned from the judge NAME, once `libra verify` has decided the answers: eight a
problem, as rollout.py draws them.

Before it: policy/ (the Hugging Face folder of Qwen3-8B) and unanswered.jsonl, in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4). Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import rollout

HERE = pathlib.Path(__file__).parent


def get_config() -> rollout.Config:
    """rollout.py of the policy."""
    return dataclasses.replace(
        config.load(str(HERE / "rollout.py"), rollout.Config),
        problems="runs/paper/32b/unanswered.jsonl",
        checkpoint="runs/paper/32b/policy",
    )
