"""Answers of the policy that judges shall improve, Qwen3-1.7B, to problems without answers.

    libra rollout --workdir=runs/paper/8b/answers --config=configs/paper/8b/answers.py
    libra rollout --workdir=runs/paper/8b/solved/NAME --config=configs/paper/8b/answers.py \
        --config.problems=runs/paper/8b/held_out.jsonl --config.checkpoint=runs/paper/8b/dpo/NAME/export

The second is its accuracy after it learned from the judge NAME, once `libra verify` has decided the answers: eight a
problem, as rollout.py draws them.

Before it: policy/ (the Hugging Face folder of Qwen3-1.7B) and unanswered.jsonl, in runs/paper/8b.
Hardware: 64 chips of v6e (v6e:8x8). Time and score: not measured.
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
        problems="runs/paper/8b/unanswered.jsonl",
        checkpoint="runs/paper/8b/policy",
    )
