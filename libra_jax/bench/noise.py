"""How noisy labels are, from people's labels of a drawn sample: shares weighted by what each drawn item stands for.

A labelled item of a stratum with N items, m of them labelled, stands for N / m (inverse-probability weighting: Horvitz
and Thompson, 1952, J. Am. Stat. Assoc. 47). The share is of the audited set itself, which is fixed and of which the draw
alone is random, so responses to one problem need no clustering. Intervals hold for few and for no errors, where a
bootstrap of the sample would give an interval of no width: exact ones (Clopper and Pearson, 1934, Biometrika 26) where
all weights are equal, else the gamma interval of a weighted sum of rare counts (Fay and Feuer, 1997, Statist. Med. 16),
which is conservative where errors are not rare.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from libra_jax.bench.audit import Item, Stratum
from libra_jax.records import HumanLabel

METHOD = ("shares of the audited set, weighted by stratum (Horvitz and Thompson 1952); intervals exact (Clopper and "
          "Pearson 1934) where all weights are equal, else gamma (Fay and Feuer 1997)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """A weighted share with its interval; None where nobody labelled any of it.

    `labels` of it were labelled; they stand for `covered` of its `population`: strata without a label are not covered.
    """

    value: float | None
    low: float | None
    high: float | None
    labels: int
    covered: int
    population: int


def estimate(items: Sequence[Item], drawn: Sequence[Item], labels: Mapping[str, HumanLabel], *, level: float = 0.95
             ) -> dict[str, Any]:
    """What people's labels (by item id) say of the set `items` from which `drawn` come.

    Returns shares: "wrong" of the labels that rules, models or unknown ones decided, overall, by source, by what the
    label says ("correct", "incorrect") and by kind; "undecided_correct", of the undecided; "judges_wrong" of each
    judge's opinions. Labels of people who could not tell do not count.
    """
    said = {name: label.correct for name, label in labels.items() if label.correct is not None}
    labelled = [item for item in drawn if item.id in said]

    def share(within: Callable[[Item], bool], hit: Callable[[Item], bool]) -> Share:
        return _share([item for item in items if within(item)], [item for item in labelled if within(item)], hit, level)

    def ruled(item: Item) -> bool:
        return item.correct is not None and item.decided_by != "human"

    def wrong(item: Item) -> bool:
        return said[item.id] is not item.correct

    judges = sorted({opinion.judge for item in items for opinion in item.opinions})
    return {
        "wrong": {
            "overall": share(ruled, wrong),
            "by_source": {name: share(lambda item: ruled(item) and item.source == name, wrong)
                          for name in sorted({item.source for item in items})},
            "by_label": {name: share(lambda item: ruled(item) and item.correct is value, wrong)
                         for name, value in (("correct", True), ("incorrect", False))},
            "by_kind": {name: share(lambda item: item.kind == name, wrong)
                        for name in sorted({item.kind for item in items if item.correct is not None})},
        },
        "undecided_correct": share(lambda item: item.correct is None, lambda item: said[item.id]),
        "judges_wrong": {judge: share(lambda item: _verdict(item, judge) is not None,
                                      lambda item: _verdict(item, judge) is not said[item.id]) for judge in judges},
    }


def interval(hits: Sequence[bool], weights: Sequence[float], level: float) -> tuple[float, float]:
    """The interval of the weighted share of `hits` [m], m > 0, as the module says; bounds within 0 and 1."""
    from scipy import stats  # here, since it takes half a second to import

    hit, weight = np.array(hits, dtype=bool), np.array(weights, dtype=float)
    tail, count, hit_count = (1 - level) / 2, len(hit), int(hit.sum())
    if np.allclose(weight, weight[0]):
        low = stats.beta.ppf(tail, hit_count, count - hit_count + 1) if hit_count else 0.0
        high = stats.beta.ppf(1 - tail, hit_count + 1, count - hit_count) if hit_count < count else 1.0
        return float(low), float(high)
    weight = weight / weight.sum()
    if weight[hit].sum() > 0.5:  # of the two complements the rarer has the better interval
        low, high = interval(~hit, weight, level)
        return 1 - high, 1 - low
    value, variance, largest = weight[hit].sum(), (weight[hit] ** 2).sum(), weight.max()
    low = stats.gamma.ppf(tail, value**2 / variance, scale=variance / value) if hit_count else 0.0
    value, variance = value + largest, variance + largest**2
    high = stats.gamma.ppf(1 - tail, value**2 / variance, scale=variance / value)
    return float(low), min(float(high), 1.0)


def _share(items: Sequence[Item], labelled: Sequence[Item], hit: Callable[[Item], bool], level: float) -> Share:
    sizes: collections.Counter[Stratum] = collections.Counter(item.stratum for item in items)
    counts = collections.Counter(item.stratum for item in labelled)
    covered = sum(sizes[stratum] for stratum in counts)
    if not labelled:
        return Share(value=None, low=None, high=None, labels=0, covered=0, population=len(items))
    weights = [sizes[item.stratum] / counts[item.stratum] for item in labelled]
    hits = [hit(item) for item in labelled]
    value = sum(weight for weight, each in zip(weights, hits, strict=True) if each) / sum(weights)
    low, high = interval(hits, weights, level)
    return Share(value=value, low=low, high=high, labels=len(labelled), covered=covered, population=len(items))


def _verdict(item: Item, judge: str) -> bool | None:
    verdict = next((opinion.verdict for opinion in item.opinions if opinion.judge == judge), "none")
    return None if verdict == "none" else verdict == "correct"
