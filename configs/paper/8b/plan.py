"""The plan of this folder's rows: sft.py and rl.py, compiled without a TPU.

    libra plan --workdir=runs/paper/8b/plan --config=configs/paper/8b/plan.py

The other rows run the programs of these two: they differ in files and in numbers that no program sees.

Hardware: any machine; planned for v6e:8x8 (docs/paper.md). Time and score: minutes a program.
"""

import pathlib

from libra_jax import config
from libra_jax.stages import plan, rl, sft

HERE = pathlib.Path(__file__).parent


def get_config() -> plan.Config:
    """The plan stage's config, of the configs that the rows take."""
    return plan.Config(
        model="Qwen/Qwen3-8B",
        topology="v6e:8x8",
        sft=config.load(str(HERE / "sft.py"), sft.Config),
        rl=config.load(str(HERE / "rl.py"), rl.Config),
    )
