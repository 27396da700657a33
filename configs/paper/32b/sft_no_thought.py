"""The row "SFT, no thought" of the table "thinking": the labels alone, as a judge that does not think learns.

    libra sft --workdir=runs/paper/32b/sft_no_thought --config=configs/paper/32b/sft_no_thought.py

As many steps of as many tokens as sft.py. A judgement is then its prompt and one verdict, so that a row holds more of
them and the examples are seen more often: the comparison is of equal work, not of equal epochs.

Before it: base/ and sets/train.jsonl in runs/paper/32b.
Hardware: 64 chips of v5p (v5p:4x4x4), the programs of sft.py. Time and score: not measured.
"""

import dataclasses
import pathlib

from libra_jax import config
from libra_jax.stages import sft

HERE = pathlib.Path(__file__).parent


def get_config() -> sft.Config:
    """sft.py on the labels of all examples."""
    how = config.load(str(HERE / "sft.py"), sft.Config)
    return dataclasses.replace(how, learn="labels", kept="")
