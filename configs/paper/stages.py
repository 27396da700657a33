"""What do SFT and RL add, each and together?

    libra paper --workdir=runs/paper --config=configs/paper/stages.py

On the miniature, three seeds on two CPU cores: one SFT and two RL runs; its time was not measured.
Judges that other tables made in the same workdir are used again. What came out: docs/paper.md.
"""

from libra_jax.stages import paper


def get_config() -> paper.Config:
    """The table "stages"."""
    return paper.Config(tables=("stages",))
