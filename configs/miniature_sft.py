"""SFT of the miniature on its own kept judgements: the step of `libra demo` by hand, after a demo has run.

    libra sft --workdir=runs/miniature/sft --config=configs/miniature_sft.py \
        --config.examples=runs/demo/sets/train.jsonl --config.kept=runs/demo/reject/kept.jsonl

Hardware: two CPU cores. Time and score: those of the demo's SFT (README.md).
"""

import pathlib

import libra_jax
from libra_jax.stages import sft
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


def get_config() -> sft.Config:
    """The sft stage's config; paths of the data are given on the command line."""
    return sft.Config(
        checkpoint=str(pathlib.Path(libra_jax.__file__).parent / "miniature/checkpoint"),
        template="miniature",
        sequence_length=256,
        batch_size=16,
        train=training.TrainConfig(
            num_steps=40,
            save_every=10,
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=3, schedule="cosine"),
        ),
    )
