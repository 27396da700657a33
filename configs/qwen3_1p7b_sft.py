"""SFT of Qwen3-1.7B as a judge on judgements that `libra reject` kept.

    libra sft --workdir=runs/qwen3_1p7b/sft --config=configs/qwen3_1p7b_sft.py \
        --config.checkpoint=Qwen3-1.7B --config.examples=train.jsonl --config.kept=kept.jsonl

Qwen3-1.7B is the folder that `hf download Qwen/Qwen3-1.7B --local-dir Qwen3-1.7B` makes; train.jsonl comes from
`libra curate`, kept.jsonl from `libra reject`.

Hardware: meant for v6e-8 (one host, 8 chips of 31 GiB). By arithmetic, not by measurement: float32 masters and both
Adam moments are 1.7e9 x 12 bytes = 20 GB, which fsdp spreads over the chips; the float32 logits of the one row of a
part on each chip are 8,192 x 151,936 x 4 bytes = 5 GB, of which logit_chunk holds a sixteenth at a time.
Time and score: not measured yet.
"""

from libra_jax.stages import sft
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


def get_config() -> sft.Config:
    """The sft stage's config; paths are given on the command line."""
    return sft.Config(
        template="libra",
        sequence_length=8192,
        batch_size=64,
        train=training.TrainConfig(
            num_steps=500,
            accumulation=8,
            save_every=50,
            compute_dtype="bfloat16",
            remat="full",
            logit_chunk=512,
            optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=20, schedule="cosine"),
        ),
    )
