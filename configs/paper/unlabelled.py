"""Does the policy gain more from more problems without answers?

    libra paper --workdir=runs/paper --config=configs/paper/unlabelled.py

On the miniature, three seeds on two CPU cores: one SFT, one RL and three DPO runs; its time was not measured.
Judges that other tables made in the same workdir are used again. What came out: docs/paper.md.
"""

from libra_jax.stages import paper


def get_config() -> paper.Config:
    """The table "unlabelled"."""
    return paper.Config(tables=("unlabelled",))
