"""Which judging examples a run of RL learns from: all, or those that pass rates choose (judging/curriculum.py)."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from libra_jax import runs
from libra_jax.judging import curriculum
from libra_jax.records import Judgement, JudgingExample

if TYPE_CHECKING:
    from libra_jax.stages import rl


def take(config: rl.Config, examples: Sequence[JudgingExample], workdir: pathlib.Path
         ) -> tuple[list[JudgingExample], dict[str, int], int]:
    """The examples in the order of the curriculum, its counts for the summary, and the number of broken lines.

    Without `config.judgements` they are all of them, and nothing is counted. ValueError for a curriculum without
    judgements, or as curriculum.choose.
    """
    if not config.judgements:
        if config.curriculum != curriculum.CurriculumConfig():
            raise ValueError("--config.curriculum chooses by pass rates: give --config.judgements, several an example, "
                             "of the judge that is to learn")
        return list(examples), {}, 0
    judgements, broken = runs.read(config.judgements, Judgement, workdir)
    chosen, stats = curriculum.choose(examples, judgements, config.curriculum)
    return chosen, {"given": len(examples), **dataclasses.asdict(stats)}, broken
