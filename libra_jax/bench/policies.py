"""Scores of policies: the share of right answers to problems, with intervals that resample problems."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from libra_jax.bench import significance
from libra_jax.bench.significance import Bootstrap, Estimate
from libra_jax.records import Problem, VerifiedRollout


def accuracy(problems: Sequence[Problem], rollouts: Iterable[VerifiedRollout],
             config: Bootstrap = Bootstrap()) -> Estimate:  # noqa: B008 (frozen)
    """Mean over problems of the share of right responses; undecided is not right.

    ValueError for no problems, a problem without a response, or a response to an unknown problem.
    """
    return _estimate(problems, _shares(problems, rollouts), config)


def difference(problems: Sequence[Problem], first: Iterable[VerifiedRollout], second: Iterable[VerifiedRollout],
               config: Bootstrap = Bootstrap()) -> Estimate:  # noqa: B008 (frozen)
    """By how much the second policy's accuracy is higher, paired: both on the same resampled problems.

    ValueError as `accuracy`.
    """
    return _estimate(problems, _shares(problems, second) - _shares(problems, first), config)


def _estimate(problems: Sequence[Problem], values: np.ndarray, config: Bootstrap) -> Estimate:
    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": weights @ values / weights.sum(axis=1)}

    return significance.estimate(statistic, [problem.id for problem in problems],
                                 [problem.source for problem in problems], config)["mean"]


def _shares(problems: Sequence[Problem], rollouts: Iterable[VerifiedRollout]) -> np.ndarray:
    """Shares of right responses [problems]."""
    right: collections.Counter[str] = collections.Counter()
    given: collections.Counter[str] = collections.Counter()
    for rollout in rollouts:
        right[rollout.problem_id] += rollout.correct is True
        given[rollout.problem_id] += 1
    known = {problem.id for problem in problems}
    for name in [*sorted(given.keys() - known), *sorted(known - given.keys())]:
        what = "has no response" if name in known else "has responses and is not among the problems"
        raise ValueError(f"problem {name!r} {what}; give the problems that the policy answered")
    if not problems:
        raise ValueError("no problems; expected at least one")
    return np.array([right[problem.id] / given[problem.id] for problem in problems])
