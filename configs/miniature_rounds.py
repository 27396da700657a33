"""Three rounds of rejection sampling and SFT of the miniature, on the sets that a demo has made.

    libra rounds --workdir=runs/miniature/rounds --config=configs/miniature_rounds.py \
        --config.examples=runs/demo/sets/train.jsonl --config.bench=runs/demo/sets/bench.jsonl

Hardware: two CPU cores. Time and score: docs/stages.md, "Rejection sampling in rounds".
"""

import pathlib

import libra_jax
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.sampling.rejection import RejectionConfig
from libra_jax.stages import judge, reject, rounds, sft
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


def get_config() -> rounds.Config:
    """The rounds stage's config; each round draws, keeps, trains and measures as the demo does."""
    return rounds.Config(
        checkpoint=str(pathlib.Path(libra_jax.__file__).parent / "miniature/checkpoint"),
        template="miniature",
        rounds=3,
        reject=reject.Config(
            sampling=SamplingConfig(max_new_tokens=64, num_samples=4, batch_size=256),
            rejection=RejectionConfig(prefer="agreed", max_per_example=1, easy_fraction=1.0),
        ),
        sft=sft.Config(
            sequence_length=256,
            batch_size=16,
            train=training.TrainConfig(
                num_steps=40,
                save_every=10,
                optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=3, schedule="cosine"),
            ),
        ),
        judge=judge.Config(sampling=SamplingConfig(max_new_tokens=64, num_samples=2, batch_size=256)),
    )
