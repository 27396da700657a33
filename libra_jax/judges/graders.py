"""Rewards of a policy's solutions: by a judge, by the majority of a group, or by the true verifier.

Each grader is a function of the solutions alone: the same ones earn the same, in whatever run they are asked for, so a
reinforcement that was killed goes on to the same bytes. A solution that was cut off earns 0 from all three.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from libra_jax.judges import baselines
from libra_jax.judges.protocol import Judge
from libra_jax.judging import reward
from libra_jax.records import JudgingExample, Problem
from libra_jax.verify import batch, extract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solution:
    """What a policy wrote to `problem`; `text` None: it was cut off. Those of one `group` were drawn together."""

    problem: Problem
    group: int
    text: str | None


# Solutions -> (the reward of each, from 0 to 1; metrics of them all)
Grader = Callable[[Sequence[Solution]], tuple[list[float], dict[str, float]]]


def by_verifier(pool: batch.Pool) -> Grader:
    """1 where the final answer equals the problem's, which must be there; undecided is 0, and its share a metric."""

    def grade(solutions: Sequence[Solution]) -> tuple[list[float], dict[str, float]]:
        whole = [each for each in solutions if each.text is not None]
        decided = list(pool.decide((each.text, each.problem.answer) for each in whole))
        right = iter([float(decision.correct is True) for decision in decided])
        earned = [0.0 if each.text is None else next(right) for each in solutions]
        undecided = sum(decision.correct is None for decision in decided)
        return earned, {"accuracy": float(np.mean(earned)), "undecided": undecided / len(solutions)}

    return grade


def by_majority(pool: batch.Pool) -> Grader:
    """1 where the final answer is the commonest of its group, by verify's equality (TTRL, arXiv 2504.16084, section 3).

    Deviation: of equally common answers all earn 1, where TTRL takes one of them: a group that is torn teaches less
    instead of something arbitrary. A solution without an answer has no vote and earns 0.
    """

    def grade(solutions: Sequence[Solution]) -> tuple[list[float], dict[str, float]]:
        places: dict[str, list[int]] = collections.defaultdict(list)
        for place, each in enumerate(solutions):
            places[str(each.group)].append(place)
        found = [each.text and extract.extract(each.text) for each in solutions]
        earned, silent = [0.0] * len(solutions), sum(answer is None for answer in found)
        numbers = baselines.number_answers({name: [found[place] for place in some] for name, some in places.items()},
                                           pool.compare)
        for name, some in places.items():
            votes = collections.Counter(number for number in numbers[name] if number is not None)
            for place, number in zip(some, numbers[name], strict=True):
                earned[place] = float(number is not None and votes[number] == max(votes.values()))
        return earned, {"agreement": float(np.mean(earned)), "answerless": silent / len(solutions)}

    return grade


def by_judge(judge: Judge) -> Grader:
    """A judge's score, the share of its votes for "correct"; no parsed vote is 0, and the unparsed share a metric.

    A solution is judged under an id made of its problem's and its own text, by which the judge seeds its draws: equal
    solutions are judged once, and get the same votes in every step. So a judge's luck with one text stays.
    """

    def grade(solutions: Sequence[Solution]) -> tuple[list[float], dict[str, float]]:
        names = [None if each.text is None else _name(each.problem, each.text) for each in solutions]
        examples = {name: JudgingExample(id=name, problem_id=each.problem.id, question=each.problem.question,
                                         response=each.text or "", correct=None, policy="policy",
                                         source=each.problem.source)
                    for name, each in zip(names, solutions, strict=True) if name is not None}
        votes = collections.defaultdict(list)
        for judgement in judge.judge(list(examples.values())):
            votes[judgement.example_id].append(judgement)
        scores = {name: reward.score(some) or 0.0 for name, some in votes.items()}
        verdicts = [vote.verdict for some in votes.values() for vote in some]
        earned = [0.0 if name is None else scores[name] for name in names]
        return earned, {"judge_score": float(np.mean(earned)),
                        "unparsed": verdicts.count("unparsed") / max(len(verdicts), 1)}

    return grade


def _name(problem: Problem, text: str) -> str:
    return f"{problem.id}/{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
