"""GRPO of an SFT'd Qwen3-1.7B judge on judging examples with known labels.

    libra rl --workdir=runs/qwen3_1p7b/rl --config=configs/qwen3_1p7b_rl.py \
        --config.checkpoint=runs/qwen3_1p7b/sft/export --config.examples=train.jsonl

Groups of 8 judgements of up to 4,096 tokens, asymmetric clips as in DAPO; thoughts above 3,072 tokens pay the length
term.

Hardware: meant for v6e-8. Time and score: not measured yet.
"""

from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import rl
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


def get_config() -> rl.Config:
    """The rl stage's config; paths are given on the command line."""
    return rl.Config(
        template="libra",
        prompt_length=4096,
        groups=64,
        sampling=SamplingConfig(max_new_tokens=4096, num_samples=8, batch_size=256),
        grpo=rl.GrpoConfig(length_expected=3072, length_maximum=4096),
        train=training.TrainConfig(
            num_steps=200,
            accumulation=8,
            save_every=10,
            compute_dtype="bfloat16",
            remat="full",
            logit_chunk=512,
            optimizer=OptimizerConfig(learning_rate=1e-6, warmup_steps=5),
        ),
    )
