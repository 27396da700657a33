"""GRPO of the miniature as a policy, rewarded by the judge that `libra demo` trained, after a demo has run.

    libra improve --workdir=runs/miniature/improve --config=configs/miniature_improve.py \
        --config.problems=runs/demo/unanswered.jsonl --config.judge.checkpoint=runs/demo/rl/export

Hardware: two CPU cores. Time and score: docs/downstream.md.
"""

import pathlib

from libra_jax.miniature import arithmetic
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import improve, judge, rl
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


def get_config() -> improve.Config:
    """The improve stage's config; paths are given on the command line."""
    return improve.Config(
        judge=judge.Config(template="miniature", sampling=SamplingConfig(max_new_tokens=64, num_samples=4,
                                                                         batch_size=256)),
        rl=rl.Config(
            checkpoint=str(pathlib.Path(arithmetic.__file__).parent / "checkpoint"),
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
        ),
    )
