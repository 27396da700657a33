"""GRPO of an SFT'd Qwen2.5-32B judge on judging examples with known labels, thoughts of up to 12,288 tokens.

    libra rl --workdir=runs/libra_rm_32b/rl --config=configs/libra_rm_32b_rl.py \
        --config.checkpoint=runs/libra_rm_32b/sft/export --config.examples=train.jsonl

64 groups of 8 judgements a step, asymmetric clips as in DAPO; thoughts above 8,192 tokens pay the length term.

Hardware: planned for v5p:4x4x4, v5p:2x4x4 and v6e:8x8 (docs/plans.md). Time and score: not measured yet.
"""

from libra_jax.parallel.mesh import MeshConfig
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
        sampling=SamplingConfig(max_new_tokens=12288, num_samples=8, batch_size=128),
        grpo=rl.GrpoConfig(kl_weight=0.001, length_expected=8192, length_maximum=12288),
        train=training.TrainConfig(
            num_steps=200,
            accumulation=32,
            save_every=10,
            compute_dtype="bfloat16",
            remat="full",
            logit_chunk=512,
            mesh=MeshConfig(fsdp=-1, tensor=4),
            optimizer=OptimizerConfig(learning_rate=1e-6, warmup_steps=5),
        ),
    )
