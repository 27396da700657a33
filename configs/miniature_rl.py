"""GRPO of the SFT'd miniature: the step of `libra demo` by hand, after a demo has run.

    libra rl --workdir=runs/miniature/rl --config=configs/miniature_rl.py \
        --config.checkpoint=runs/demo/sft/export --config.examples=runs/demo/sets/train.jsonl

Hardware: two CPU cores. Time and score: those of the demo's RL (README.md).
"""

from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import rl
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


def get_config() -> rl.Config:
    """The rl stage's config; paths are given on the command line."""
    return rl.Config(
        template="miniature",
        groups=32,
        redraws=1,
        updates=2,
        sampling=SamplingConfig(max_new_tokens=64, num_samples=8, batch_size=256),
        grpo=rl.GrpoConfig(length_expected=56, length_maximum=64),
        train=training.TrainConfig(
            num_steps=20,
            accumulation=2,
            save_every=10,
            optimizer=OptimizerConfig(learning_rate=3e-4, warmup_steps=3),
        ),
    )
