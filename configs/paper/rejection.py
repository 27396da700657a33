"""Is it worth keeping right judgements alone?

    libra paper --workdir=runs/paper --config=configs/paper/rejection.py

On the miniature, three seeds on two CPU cores: two SFT runs; two minutes a seed beside other work.
Judges that other tables made in the same workdir are used again. What came out: docs/paper.md.
"""

from libra_jax.stages import paper


def get_config() -> paper.Config:
    """The table "rejection"."""
    return paper.Config(tables=("rejection",))
