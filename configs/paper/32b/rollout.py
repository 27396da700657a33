"""Answers to the problems that the judges learn from and are measured on, by one policy; once for each policy.

    libra rollout --workdir=runs/paper/32b/policies/NAME --config=configs/paper/32b/rollout.py \
        --config.checkpoint=NAME --config.policy=NAME

Eight answers a problem, so that most problems have right and wrong ones, which is what V2V keeps. They end at 3,072
tokens: with its question an answer then fits the 4,096 tokens that a judge's prompt may have in training.

Before it: runs/paper/32b/problems.jsonl (problems with answers), and NAME, a checkpoint folder.
Hardware: 64 chips of v5p (v5p:4x4x4); four hold a copy of a policy of up to 32 billion parameters, those beside them
another. Time and score: not measured.
"""

from libra_jax.parallel.mesh import MeshConfig
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import rollout


def get_config() -> rollout.Config:
    """The rollout stage's config; the policy is given on the command line."""
    return rollout.Config(
        problems="runs/paper/32b/problems.jsonl",
        mesh=MeshConfig(data=-1, fsdp=1, tensor=4),
        compute_dtype="bfloat16",
        sampling=SamplingConfig(max_new_tokens=3072, num_samples=8, batch_size=512),
    )
