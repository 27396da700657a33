"""Rejection sampling by the base, Qwen2.5-32B: the judgements that SFT learns from.

    libra reject --workdir=runs/paper/32b/reject --config=configs/paper/32b/reject.py

Up to eight judgements an example, and no more after the first right one, which is kept, also of easy examples. So the
table "rejection" compares as many judgements: one an example that is right, or the first one whatever it says. Thoughts
end at 12,288 tokens, as in RL.

Before it: base/ (the Hugging Face folder of Qwen2.5-32B) and sets/train.jsonl, both in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4), 16 copies of the judge. Time and score: not measured.
"""

from libra_jax.parallel.mesh import MeshConfig
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.sampling.rejection import RejectionConfig
from libra_jax.stages import reject


def get_config() -> reject.Config:
    """The reject stage's config, with its inputs."""
    return reject.Config(
        examples="runs/paper/32b/sets/train.jsonl",
        checkpoint="runs/paper/32b/base",
        mesh=MeshConfig(data=-1, fsdp=1, tensor=4),
        compute_dtype="bfloat16",
        sampling=SamplingConfig(max_new_tokens=12288, num_samples=8, batch_size=512),
        enough=1,
        rejection=RejectionConfig(max_per_example=1, easy_fraction=1.0),
    )
