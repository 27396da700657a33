"""Paired tests between judges of the same examples: a clustered bootstrap, and McNemar's exact test beside it.

The bootstrap resamples problems with all their responses, so it is the one to believe. McNemar's test counts the
examples that one judge alone gets right as if they were independent; responses to one problem are not, which makes its
p too small where judges win or lose whole problems. Both are corrected by Holm over all pairs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from libra_jax.bench import power, score, significance
from libra_jax.bench.power import Power
from libra_jax.bench.significance import Bootstrap
from libra_jax.records import Judgement, JudgingExample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two judges of the same examples.

    Attributes:
      first, second: their names.
      value, low, high: by how much the second's metric is higher, with its interval; None where undefined.
      p, p_holm: of "no difference" by the clustered bootstrap, alone and corrected over all pairs.
      only_first, only_second: examples that one judge alone decides right, each by the majority of its judgements.
      p_mcnemar, p_mcnemar_holm: McNemar's exact test of these two numbers, which ignores that problems cluster.
      power: what differences in the mean of sources these examples can find.
    """

    first: str
    second: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    only_first: int
    only_second: int
    p_mcnemar: float
    p_mcnemar_holm: float
    power: Power


def compare(examples: Sequence[JudgingExample], judgements_by_judge: Mapping[str, Sequence[Judgement]],
            bootstrap: Bootstrap = Bootstrap(), *, metric: str = "mean_of_sources",  # noqa: B008 (frozen)
            target: power.Target = power.Target()) -> list[Comparison]:  # noqa: B008 (frozen)
    """Every pair of judges, in their order. `metric` is one of score.METRICS.

    ValueError as score.tabulate, or for an unknown metric.
    """
    if metric not in score.METRICS:
        raise ValueError(f"metric={metric!r}: expected one of {', '.join(score.METRICS)}")
    tables = {judge: score.tabulate(examples, some) for judge, some in judgements_by_judge.items()}
    clusters = [example.problem_id for example in examples], [example.source for example in examples]
    drawn = {judge: _measure(table, metric, clusters, bootstrap) for judge, table in tables.items()}
    right = {judge: decided_right(table) for judge, table in tables.items()}
    varies, found = significance.varies(*clusters), []
    for first, second in itertools.combinations(tables, 2):
        (value,), resampled = (after - before for before, after in zip(drawn[first], drawn[second], strict=True))
        low, high = significance.interval(resampled, bootstrap.level) if varies else (None, None)
        only_first = int((right[first] & ~right[second]).sum())
        only_second = int((right[second] & ~right[first]).sum())
        found.append(Comparison(
            first=first, second=second, value=None if np.isnan(value) else float(value), low=low, high=high,
            p=significance.p_value(resampled) if varies else None, p_holm=None, only_first=only_first,
            only_second=only_second, p_mcnemar=mcnemar(only_first, only_second), p_mcnemar_holm=1.0,
            power=power.of(tables[first], tables[second], target, level=bootstrap.level)))
    corrected = zip(found, significance.holm([each.p for each in found]),
                    significance.holm([each.p_mcnemar for each in found]), strict=True)
    return [dataclasses.replace(each, p_holm=p, p_mcnemar_holm=exact) for each, p, exact in corrected]


def _measure(table: score.Table, metric: str, clusters: tuple[list[str], list[str]], bootstrap: Bootstrap
             ) -> tuple[np.ndarray, np.ndarray]:
    """The metric on all examples [1], and on every resample [num_resamples]."""

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        if metric == "mean_of_sources":  # the one that is asked for most, at a tenth of the time of all
            return {metric: score.mean_of_sources(table, weights)}
        return {metric: score.metrics(table, weights)[metric]}

    return (statistic(np.ones((1, len(table.labels))))[metric],
            significance.draws(statistic, *clusters, bootstrap)[metric])


def decided_right(table: score.Table) -> np.ndarray:
    """Whether most parsed judgements of each example give its label, bool [N]; a tie or nothing parsed does not."""
    correct, incorrect = table.counts[:, 0], table.counts[:, 1]
    return np.where(table.labels, correct > incorrect, incorrect > correct)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of equal chances to be the only one that is right: a binomial test of one half.

    Worked: 1 against 5 gives 2 (1 + 6) / 2^6 = 0.21875. No discordant example is no evidence: 1.
    """
    total, term, tail = only_first + only_second, 1, 0
    for number in range(min(only_first, only_second) + 1):
        tail += term
        term = term * (total - number) // (number + 1)
    return min(1.0, 2 * tail / 2**total)
