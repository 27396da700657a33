"""How many problems a bench needs to tell two judges apart, from how much they differ on the examples at hand.

The paired difference in the mean of sources is normal in large samples; its variance comes from the sums of each
problem (linearised ratio estimator, Cochran, 1977, Sampling Techniques, section 6.3), so what responses to one problem
share is in it. A test at level a finds a difference d with chance b when d = (z(1 - a/2) + z(b)) standard errors.
"""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np

from libra_jax.bench.score import Table, rightness


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What shall be found.

    Attributes:
      points: differences, in hundredths of accuracy.
      power: the chance with which each shall be found.
    """

    points: tuple[float, ...] = (1.0, 2.0, 5.0)
    power: float = 0.8

    def __post_init__(self):
        if not 0 < self.power < 1 or min(self.points, default=1) <= 0:
            raise ValueError(f"points={self.points}, power={self.power}: expected points above 0, such as 2, and a "
                             "power between 0 and 1, such as 0.8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Power:
    """What the examples at hand can find of the difference between two judges.

    Attributes:
      standard_error: of the difference in the mean of sources.
      design_effect: its variance over that of as many independent examples; above 1 where problems cluster.
      smallest: the smallest difference that is found with the wanted power.
      problems: points -> problems needed, if sources keep their shares and problems their number of responses.
      examples: points -> the examples that this makes.

    All None where a source has one problem, or where the judges are right on the same examples.
    """

    standard_error: float | None = None
    design_effect: float | None = None
    smallest: float | None = None
    problems: dict[str, int | None]
    examples: dict[str, int | None]


def of(first: Table, second: Table, target: Target, *, level: float = 0.95) -> Power:
    """The power of a paired comparison of two judges whose tables hold the same examples."""
    names = [f"{points:g}" for points in target.points]
    variance, independent = _variances(first, second)
    if not variance or not independent:
        return Power(problems=dict.fromkeys(names), examples=dict.fromkeys(names))
    normal = statistics.NormalDist()
    error = math.sqrt(variance)
    smallest = (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(target.power)) * error
    num_problems = len(set(zip(first.sources, first.problems, strict=True)))
    growth = [(smallest / (points / 100)) ** 2 for points in target.points]
    return Power(standard_error=error, design_effect=variance / independent, smallest=smallest,
                 problems={name: math.ceil(num_problems * times) for name, times in zip(names, growth, strict=True)},
                 examples={name: math.ceil(len(first.labels) * by) for name, by in zip(names, growth, strict=True)})


def _variances(first: Table, second: Table) -> tuple[float | None, float | None]:
    """Of the paired difference in the mean of sources: with problems as clusters, and with examples independent."""
    change = rightness(second) - rightness(first)
    sources, problems = np.array(first.sources, dtype=object), np.array(first.problems, dtype=object)
    clustered, independent = [], []
    for source in sorted(set(first.sources)):
        rows = sources == source
        rest = change[rows] - change[rows].mean()
        _, place = np.unique(problems[rows].astype(str), return_inverse=True)
        sums = np.bincount(place, weights=rest)
        if len(sums) < 2:
            return None, None
        clustered.append(float(len(sums) / (len(sums) - 1) * (sums**2).sum() / len(rest) ** 2))
        independent.append(float((rest**2).sum() / (len(rest) - 1) / len(rest)))
    return sum(clustered) / len(clustered) ** 2, sum(independent) / len(independent) ** 2
