"""A checkpoint in this process as a scorer of (question, response) pairs (judges/trainers.py)."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from libra_jax.judges import model
from libra_jax.judging import reward
from libra_jax.judging.prompt import load_template
from libra_jax.records import JudgingExample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Local:
    """As trainers.Scorer. Draws are seeded by the texts, as those of `libra serve`: the same pair, the same score."""

    judge: model.ModelJudge

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """As Scorer.scores."""
        examples = [pair_example(question, response) for question, response in pairs]
        votes = self.judge.config.sampling.num_samples
        judgements = self.judge.judge(examples)
        return [reward.score(itertools.islice(judgements, votes)) for _ in examples]


def pair_example(question: str, response: str) -> JudgingExample:
    """A pair as a judging example, whose id says both texts."""
    name = json.dumps([question, response])
    return JudgingExample(id=name, problem_id=name, question=question, response=response, correct=None, policy="",
                          source="")


def load(path: str | os.PathLike, votes: int, template: str, compute_dtype: Literal["float32", "bfloat16"],
         changes: Mapping[str, Any]) -> Local:
    """The scorer that trainers.from_checkpoint describes. ValueError or FileNotFoundError where it cannot be loaded."""
    config = model.ModelJudgeConfig(**changes)
    config = dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, num_samples=votes))
    return Local(judge=model.load(path, config, load_template(template), compute_dtype=compute_dtype))
