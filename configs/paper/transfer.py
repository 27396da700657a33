"""Is a judge better on the policy that it was trained on?

    libra paper --workdir=runs/paper --config=configs/paper/transfer.py

On the miniature, three seeds on two CPU cores: three SFT runs; three minutes a seed beside other work.
Judges that other tables made in the same workdir are used again. What came out: docs/paper.md.
"""

from libra_jax.stages import paper


def get_config() -> paper.Config:
    """The table "transfer"."""
    return paper.Config(tables=("transfer",))
