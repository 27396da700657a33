"""The plan of Qwen3-1.7B as a judge: libra_rm_1p7b_sft.py and libra_rm_1p7b_rl.py, compiled without a TPU.

    libra plan --workdir=runs/libra_rm_1p7b/plan --config=configs/libra_rm_1p7b.py --config.topology=v6e:8x8

Hardware: any machine; planned for v5p:4x4x4, v6e:8x8 and v5e:8x8 (docs/plans.md). Time and score: minutes a program.
"""

import pathlib

from libra_jax import config
from libra_jax.stages import plan, rl, sft

HERE = pathlib.Path(__file__).parent


def get_config() -> plan.Config:
    """The plan stage's config, of the configs that the run itself takes."""
    return plan.Config(
        model="Qwen/Qwen3-1.7B",
        topology="v6e:8x8",
        sft=config.load(str(HERE / "libra_rm_1p7b_sft.py"), sft.Config),
        rl=config.load(str(HERE / "libra_rm_1p7b_rl.py"), rl.Config),
    )
