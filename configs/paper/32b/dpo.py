"""The policy, Qwen3-8B, learns from pairs that a judge ordered: the tables "unlabelled" and "correlation".

    libra dpo --workdir=runs/paper/32b/dpo/NAME --config=configs/paper/32b/dpo.py \
        --config.pairs=runs/paper/32b/pairs/NAME/pairs.jsonl
    libra dpo --workdir=runs/paper/32b/dpo/NAME_0.25 --config=configs/paper/32b/dpo.py \
        --config.pairs=runs/paper/32b/pairs/NAME/pairs.jsonl --config.share=0.25

A question with an answer of rollout.py's length fits 4,096 tokens. 64 pairs a step for 200 steps, whatever their
number, so that rows differ in who ordered the pairs or in how many there are, not in the work. beta and the rate are
the usual ones where all parameters are trained.

Before it: pairs.py of the row NAME, and policy/, in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4). Time and score: not measured.
"""

from libra_jax.parallel.mesh import MeshConfig
from libra_jax.stages import dpo
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


def get_config() -> dpo.Config:
    """The dpo stage's config; the pairs are given on the command line."""
    return dpo.Config(
        checkpoint="runs/paper/32b/policy",
        sequence_length=4096,
        batch_size=64,
        beta=0.1,
        train=training.TrainConfig(
            num_steps=200,
            accumulation=4,
            save_every=50,
            compute_dtype="bfloat16",
            remat="full",
            logit_chunk=512,
            mesh=MeshConfig(fsdp=-1, tensor=4),
            optimizer=OptimizerConfig(learning_rate=5e-7, warmup_steps=20, schedule="cosine"),
        ),
    )
