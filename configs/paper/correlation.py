"""Does accuracy on the bench foretell what a judge's pairs are worth to a policy?

    libra paper --workdir=runs/paper --config=configs/paper/correlation.py

On the miniature, three seeds on two CPU cores: every judge is made and improves a policy; its time was not measured.
Judges that other tables made in the same workdir are used again. What came out: docs/paper.md.
"""

from libra_jax.stages import paper


def get_config() -> paper.Config:
    """The table "correlation"."""
    return paper.Config(tables=("correlation",))
