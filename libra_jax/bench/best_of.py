"""Best of n: how often the response that is picked out of n is right, by a judge's score, a vote, chance or the truth.

All values are exact expectations over the subsets of n of a problem's N responses, drawn without replacement; nothing
is sampled. Ties are broken by chance, which is in the expectation too. The verifier's line is the ceiling: pass@n
(Chen et al. 2021, arXiv 2107.03374, equation 1).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from libra_jax.bench import significance
from libra_jax.bench.significance import Bootstrap, Estimate

RANDOM, MAJORITY, VERIFIER = "random", "majority answer", "verifier"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Responses:
    """The N responses to one problem.

    Attributes:
      problem, source: the problem's id and its source.
      right: bool [N].
      answers: number of each response's final answer, equal answers having one number; None: it gives no answer [N].
      scores: float64 [N] by judge; NaN: no score, which is below all others.
    """

    problem: str
    source: str
    right: np.ndarray
    answers: Sequence[int | None]
    scores: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """Who picks, and the accuracy of the picks for each size; `gain` over chance and `price`, what the verifier would
    add, are paired and at the largest size."""

    picker: str
    accuracy: tuple[Estimate, ...]
    gain: Estimate
    price: Estimate


def by_score(right: np.ndarray, scores: np.ndarray, n: int) -> float:
    """P(the highest scored of n responses is right); `right` bool [N], `scores` float64 [N], NaN the lowest.

    Worked: right (1, 0, 0) with scores (2, 2, 1) and n=2: of the subsets {0, 1} gives a half, {0, 2} one, {1, 2} none:
    0.5.
    """
    given = np.where(np.isnan(scores), -np.inf, scores)
    total, below = 0.0, 0
    for score in np.unique(given):  # rising: `below` responses score less than this one
        here = given == score
        upto = below + int(here.sum())
        total += (math.comb(upto, n) - math.comb(below, n)) * right[here].mean()
        below = upto
    return total / math.comb(len(right), n)


def by_majority(right: np.ndarray, answers: Sequence[int | None], n: int) -> float:
    """P(the commonest answer among n responses is right); `right` bool [N], `answers` as in Responses.

    A response without an answer has no vote; where none of n has one, any of them is picked. Counts how many subsets
    give the winning answer `most` votes, t answers being tied, one answer after the other. Worked: right (1, 1, 0) with
    answers (0, 0, 1) and n=2: {0, 1} gives one, the two others, being tied, a half: 2/3.
    """
    silent = np.array([answer is None for answer in answers])
    groups = [np.array([answer == number for answer in answers])
              for number in sorted({answer for answer in answers if answer is not None})]
    mute = int(silent.sum())
    total = math.comb(mute, n) * float(right[silent].mean()) if mute else 0.0
    for most in range(1, n + 1):
        ways = np.zeros((n + 1, n // most + 1))  # by responses taken, and answers that have `most` votes
        ways[:, 0] = [math.comb(mute, taken) for taken in range(n + 1)]
        good = np.zeros_like(ways)  # the same, times the sum over the tied answers of the share that is right
        for group in groups:
            size, share = int(group.sum()), float(right[group].mean())
            more, better = np.zeros_like(ways), np.zeros_like(good)
            for votes in range(min(size, most) + 1):
                tied = int(votes == most)
                if tied > ways.shape[1] - 1:
                    continue
                into, out = (slice(votes, None), slice(tied, None)), (slice(n + 1 - votes),
                                                                     slice(ways.shape[1] - tied))
                more[into] += math.comb(size, votes) * ways[out]
                better[into] += math.comb(size, votes) * (good[out] + tied * share * ways[out])
            ways, good = more, better
        total += float((good[n, 1:] / np.arange(1, good.shape[1])).sum())
    return total / math.comb(len(right), n)


def values(responses: Sequence[Responses], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Each picker's accuracy, float64 [problems, sizes]: chance, the majority, each judge, the verifier."""
    judges = list(responses[0].scores)
    pick = {RANDOM: lambda each, n: float(each.right.mean()),
            MAJORITY: lambda each, n: by_majority(each.right, each.answers, n)}
    pick |= {judge: lambda each, n, judge=judge: by_score(each.right, each.scores[judge], n) for judge in judges}
    pick[VERIFIER] = lambda each, n: by_score(each.right, each.right.astype(float), n)
    return {name: np.array([[how(each, n) for n in sizes] for each in responses]) for name, how in pick.items()}


def lines(responses: Sequence[Responses], sizes: Sequence[int],
          config: Bootstrap = Bootstrap()) -> list[Line]:  # noqa: B008 (frozen)
    """A line for each picker, problems counting alike; intervals resample problems within their source.

    ValueError for no problems, judges that are called as another picker is, or a size that is not from 1 to the fewest
    responses of a problem.
    """
    if not responses:
        raise ValueError("no problems; expected at least one with responses")
    if taken := {RANDOM, MAJORITY, VERIFIER} & set(responses[0].scores):
        raise ValueError(f"a judge is named {taken.pop()!r}, as one of the pickers beside it; judge under another name")
    fewest = min(responses, key=lambda each: len(each.right))
    for n in sizes:
        if not 1 <= n <= len(fewest.right):
            raise ValueError(f"best of {n}: problem {fewest.problem!r} has {len(fewest.right)} responses; expected a "
                             "number from 1 to that; draw more, or leave the problem out")
    found = values(responses, sizes)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        means = {name: weights @ each / weights.sum(axis=1, keepdims=True) for name, each in found.items()}
        result = {f"{name}/{place}": mean[:, place] for name, mean in means.items() for place in range(len(sizes))}
        last = len(sizes) - 1
        result |= {f"{name}/gain": mean[:, last] - means[RANDOM][:, last] for name, mean in means.items()}
        return result | {f"{name}/price": means[VERIFIER][:, last] - mean[:, last] for name, mean in means.items()}

    estimates = significance.estimate(statistic, [each.problem for each in responses],
                                      [each.source for each in responses], config)
    return [Line(picker=name, accuracy=tuple(estimates[f"{name}/{place}"] for place in range(len(sizes))),
                 gain=estimates[f"{name}/gain"], price=estimates[f"{name}/price"]) for name in found]
