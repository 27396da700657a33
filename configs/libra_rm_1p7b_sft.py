"""SFT of Qwen3-1.7B on kept judgements with thoughts, rows of 16,384 tokens.

    libra sft --workdir=runs/libra_rm_1p7b/sft --config=configs/libra_rm_1p7b_sft.py \
        --config.checkpoint=Qwen3-1.7B --config.examples=train.jsonl --config.kept=kept.jsonl

Each device holds one row of a part at a time, so that a step of 64 rows (a million tokens) is cut into as many parts as
the mesh leaves rows to a device.

Hardware: planned for v5p:4x4x4, v6e:8x8 and v5e:8x8 (docs/plans.md). Time and score: not measured yet.
"""

from libra_jax.parallel.mesh import MeshConfig
from libra_jax.stages import sft
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


def get_config() -> sft.Config:
    """The sft stage's config; paths are given on the command line."""
    return sft.Config(
        template="libra",
        sequence_length=16384,
        batch_size=64,
        train=training.TrainConfig(
            num_steps=500,
            accumulation=4,
            save_every=50,
            compute_dtype="bfloat16",
            remat="full",
            logit_chunk=512,
            mesh=MeshConfig(fsdp=-1, tensor=4),
            optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=20, schedule="cosine"),
        ),
    )
