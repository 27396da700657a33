"""SFT of Qwen2.5-32B by LoRA on kept judgements with thoughts, rows of 16,384 tokens: libra_rm_32b_sft.py on 16 chips.

    libra sft --workdir=runs/libra_rm_32b/lora --config=configs/libra_rm_32b_lora.py \
        --config.checkpoint=Qwen2.5-32B --config.examples=train.jsonl --config.kept=kept.jsonl

Adapters of rank 32 on every matrix of the layers, a rate ten times that of all parameters; docs/lora.md has the plan.

Hardware: planned for v6e:4x4. Time and score: not measured yet.
"""

from libra_jax.model.lora import LoraConfig
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
            accumulation=16,
            save_every=50,
            compute_dtype="bfloat16",
            remat="full",
            logit_chunk=512,
            lora=LoraConfig(rank=32, alpha=32.0),
            mesh=MeshConfig(fsdp=-1, tensor=4),
            optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=20, schedule="cosine"),
        ),
    )
