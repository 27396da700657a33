"""The votes of a judge on the bench: any row that thinks.

    libra judge --workdir=runs/paper/32b/judge/NAME --config=configs/paper/32b/judge.py \
        --config.checkpoint=runs/paper/32b/NAME/export --config.name=NAME

Four votes an example: accuracy is over all of them, the score of an example their share. Thoughts as long as in RL, so
that a judge is not cut off earlier than it was trained to end.

Before it: the row NAME, and sets/bench.jsonl in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4), 16 copies of the judge. Time and score: not measured.
"""

from libra_jax.parallel.mesh import MeshConfig
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import judge


def get_config() -> judge.Config:
    """The judge stage's config; the judge is given on the command line."""
    return judge.Config(
        examples="runs/paper/32b/sets/bench.jsonl",
        mesh=MeshConfig(data=-1, fsdp=1, tensor=4),
        compute_dtype="bfloat16",
        sampling=SamplingConfig(max_new_tokens=12288, num_samples=4, batch_size=512),
    )
