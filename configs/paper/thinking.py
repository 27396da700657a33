"""Does a judge that thinks beat one that does not, as it is and with each fine-tuned for it?

    libra paper --workdir=runs/paper --config=configs/paper/thinking.py

On the miniature, three seeds on two CPU cores: two SFT runs, and four judges are measured; 433 s beside other work.
Judges that other tables made in the same workdir are used again. What came out: docs/paper.md.
"""

from libra_jax.stages import paper


def get_config() -> paper.Config:
    """The table "thinking"."""
    return paper.Config(tables=("thinking",))
