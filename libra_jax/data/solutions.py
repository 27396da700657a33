"""Which solutions of problems are trained on beside judgements, so that a judge does not forget how to solve."""

from __future__ import annotations

import collections
import dataclasses
import fractions
import hashlib
from collections.abc import Mapping, Sequence

from libra_jax.records import Problem, VerifiedRollout, example_id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stats:
    """Counts of rollouts. The first five add up: `usable` are those that none of the four before it counts.

    `not_correct`: decided as wrong, or undecided. `cut_off`: correct, but ended by the length limit. `unknown`: of a
    problem that is not given. `repeated`: of the same words as another of its problem.
    """

    not_correct: int
    cut_off: int
    unknown: int
    repeated: int
    usable: int


def usable(problems: Mapping[str, Problem], rollouts: Sequence[VerifiedRollout]) -> tuple[list[VerifiedRollout], Stats]:
    """The rollouts that may be trained on, in their order, and why the others may not."""
    counts: collections.Counter[str] = collections.Counter()
    found: dict[tuple, VerifiedRollout] = {}
    for rollout in rollouts:
        key = rollout.problem_id, tuple(rollout.text.split())
        if rollout.correct is not True:
            counts["not_correct"] += 1
        elif rollout.finish != "stop":
            counts["cut_off"] += 1
        elif rollout.problem_id not in problems:
            counts["unknown"] += 1
        elif key in found:
            counts["repeated"] += 1
        else:
            found[key] = rollout
    names = [field.name for field in dataclasses.fields(Stats)][:-1]
    return list(found.values()), Stats(**{name: counts[name] for name in names}, usable=len(found))


def number_beside(num_judgements: int, share: float) -> int:
    """How many solutions make `share` of all examples when every judgement stays: the nearest whole number.

    The share is taken as the decimal that it is written as, so 0.2 beside 8 judgements is 2. ValueError for a share
    that is not from 0 to below 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"solution_share={share}: expected at least 0 and less than 1, a part of all examples")
    exact = fractions.Fraction(str(share))
    return int(num_judgements * exact / (1 - exact) + fractions.Fraction(1, 2))


def choose(rollouts: Sequence[VerifiedRollout], number: int, seed: int) -> list[int]:
    """Indices of `number` rollouts, ascending: as many problems as there are, before a second one of any problem.

    Drawn by a hash of the rollout's name and the seed, so that neither the order of the file nor what else is in it
    changes how two rollouts compare. ValueError when there are fewer.
    """
    if number > len(rollouts):
        raise ValueError(f"{number} solutions are wanted and {len(rollouts)} can be had; expected no more")
    draws = {index: hashlib.sha256(f"{seed}/solution/{example_id(rollout)}".encode()).digest()
             for index, rollout in enumerate(rollouts)}
    turns: collections.Counter[str] = collections.Counter()
    order = []
    for index in sorted(draws, key=lambda index: (draws[index], index)):
        order.append((turns[rollouts[index].problem_id], len(order), index))
        turns[rollouts[index].problem_id] += 1
    return sorted(index for _, _, index in sorted(order)[:number])
