"""Does a judge forget how to solve, and what does it cost to keep that up?

    libra paper --workdir=runs/paper --config=configs/paper/non_judging.py

On the miniature, three seeds on two CPU cores: two SFT and two RL runs a seed; their time was not measured alone.
Judges that other tables made in the same workdir are used again. What came out: docs/paper.md.
"""

from libra_jax.stages import paper


def get_config() -> paper.Config:
    """The table "non_judging"."""
    return paper.Config(tables=("non_judging",))
