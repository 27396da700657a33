"""Ranking questions out of a curated set: of several responses to one problem exactly one is right.

A pure function of the examples' content and a seed; their order changes nothing.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

from libra_jax.judging import prompt
from libra_jax.judging.v2v import digest
from libra_jax.records import JudgingExample, RankingExample


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """What ranking questions are made.

    Attributes:
      responses: how many each has, 2 to 26; 0: none are made.
      max_per_problem: at most so many questions of one problem; no response is in two of them.
    """

    responses: int = 0
    max_per_problem: int = 1

    def __post_init__(self):
        if self.responses and not 2 <= self.responses <= len(prompt.LETTERS):
            raise ValueError(f"responses={self.responses}: expected 2 to {len(prompt.LETTERS)}, as there are letters "
                             "to name them, or 0 for no ranking questions")
        if self.max_per_problem < 1:
            raise ValueError(f"max_per_problem={self.max_per_problem}: expected at least 1; responses=0 makes no "
                             "ranking questions")


def rank(examples: Iterable[JudgingExample], config: RankingConfig, seed: int) -> tuple[RankingExample, ...]:
    """Ranking questions of labelled examples, in hash order; a problem with too few wrong responses makes none.

    Question i has its right response at place i % `responses`: each place is right as often as every other, give or
    take one. Worked: of a problem with 2 right and 5 wrong responses come 2 questions of 3 responses, if
    `max_per_problem` is at least 2, and one wrong response is left over.
    """
    wrongs = config.responses - 1
    kinds: dict[str, dict[bool | None, list[JudgingExample]]] = collections.defaultdict(lambda: {True: [], False: []})
    for example in examples:
        kinds[example.problem_id][example.correct].append(example)
    chosen = []
    for problem_id, both in kinds.items():
        right, wrong = (sorted(both[kind], key=lambda each: (digest(seed, "ranking", each.id), each.id))
                        for kind in (True, False))
        for number in range(min(config.max_per_problem, len(right), len(wrong) // wrongs)):
            chosen.append((f"{problem_id}/ranking/{number}", right[number],
                           wrong[number * wrongs : (number + 1) * wrongs]))
    chosen.sort(key=lambda each: (digest(seed, "ranking", each[0]), each[0]))
    return tuple(_example(name, right, wrong, place % config.responses)
                 for place, (name, right, wrong) in enumerate(chosen))


def _example(name: str, right: JudgingExample, wrong: list[JudgingExample], place: int) -> RankingExample:
    every = [*wrong[:place], right, *wrong[place:]]
    return RankingExample(id=name, problem_id=right.problem_id, question=right.question, right=place,
                          responses=tuple(each.response for each in every),
                          policies=tuple(each.policy for each in every), source=right.source)
