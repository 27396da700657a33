"""Accuracy in parts of a bench: by source, policy, policies in and out of training, response length and difficulty.

A policy family is a pattern of names, such as `Qwen3-*` (shell style, upper and lower case alike). A judge that was
trained on responses of a family may know its ways; so the policies that match one of the given families are "in
training", the others "outside", and the gap between the two is a measure of its own.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from libra_jax.bench import calibration, score, significance
from libra_jax.bench.significance import Bootstrap, Estimate, ratio
from libra_jax.records import JudgingExample

EDGES = (1 / 3, 2 / 3)  # of the share of right responses to a problem
DIFFICULTY = ("hard: up to 1/3 right", "middle", "easy: over 2/3 right")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SliceConfig:
    """Which slices are made.

    Attributes:
      trained_on: families of the policies that the judges were trained on; `@FILE` names a file with one on each line.
      length_bands: how many bands of response length, of about equally many examples each; 0 for none.
    """

    trained_on: tuple[str, ...] = ()
    length_bands: int = 4

    def __post_init__(self):
        if self.length_bands < 0:
            raise ValueError(f"length_bands={self.length_bands}: expected 0 (none) or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slicing:
    """One way to divide a bench: the slices' names in order, and each example's place among them (-1 for none)."""

    kind: str
    names: tuple[str, ...]
    places: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """A judge's accuracy in one slice."""

    name: str
    num_examples: int
    accuracy: Estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sliced:
    """A judge's accuracy in all slices of a kind; `gap`, of two slices, is the first's minus the second's, paired."""

    kind: str
    slices: tuple[Slice, ...]
    gap: Estimate | None


def divide(examples: Sequence[JudgingExample], config: SliceConfig = SliceConfig(), *,
           levels: Mapping[str, str] | None = None, shares: Mapping[str, float] | None = None) -> list[Slicing]:
    """Every way to divide the examples that applies; one that leaves a single slice is left out, but for the source.

    Args:
      examples: of the bench.
      config: families in training, number of bands.
      levels: problem id -> level, as the problems' source gives it; then difficulty is the level.
      shares: problem id -> share of right responses, from more responses than a curated set keeps; without, the share
        among the examples, which balancing draws towards one half.

    ValueError or FileNotFoundError for a family file that cannot be read or is empty.
    """
    families = _families(config.trained_on)
    made = [_by_name("source", [example.source for example in examples]),
            _by_name("policy", [example.policy for example in examples])]
    if families:
        inside = [any(fnmatch.fnmatchcase(example.policy.casefold(), family) for family in families)
                  for example in examples]
        made.append(Slicing(kind="policy family", names=("in training", "outside"),
                            places=tuple(0 if each else 1 for each in inside)))
    if config.length_bands:
        made.append(_by_length(examples, config.length_bands))
    if levels:
        made.append(_by_name("level", [levels.get(example.problem_id, "") for example in examples]))
    made.append(_by_difficulty(examples, shares))
    return [each for each in made if each.kind == "source" or len(set(each.places) - {-1}) > 1]


def measure(table: score.Table, slicings: Sequence[Slicing], config: Bootstrap) -> tuple[Sliced, ...]:
    """A judge's accuracy in each slice, with intervals on the same resamples of problems as everywhere."""
    right = score.rightness(table)
    masks = {(each.kind, place): (np.array(each.places) == place).astype(float)
             for each in slicings for place in range(len(each.names))}

    def statistic(weights: np.ndarray) -> dict:
        found = {name: ratio(weights @ (right * mask), weights @ mask) for name, mask in masks.items()}
        gaps = {(each.kind, "gap"): found[each.kind, 0] - found[each.kind, 1]
                for each in slicings if len(each.names) == 2}
        return found | gaps

    found = significance.estimate(statistic, table.problems, table.sources, config)
    return tuple(
        Sliced(kind=each.kind, gap=found.get((each.kind, "gap")),
               slices=tuple(Slice(name=name, num_examples=int(masks[each.kind, place].sum()),
                                  accuracy=found[each.kind, place]) for place, name in enumerate(each.names)))
        for each in slicings)


def right_shares(outcomes: Sequence[tuple[str, bool | None]]) -> dict[str, float]:
    """Share of right responses by problem id; an undecided one is not right."""
    counts: dict[str, list[bool]] = collections.defaultdict(list)
    for problem, correct in outcomes:
        counts[problem].append(correct is True)
    return {problem: sum(each) / len(each) for problem, each in counts.items()}


def _families(given: Sequence[str]) -> list[str]:
    families = []
    for word in given:
        if not word.startswith("@"):
            families.append(word.casefold())
            continue
        lines = pathlib.Path(word[1:]).read_text(encoding="utf-8").split("\n")
        named = [line.strip().casefold() for line in lines if line.strip()]
        if not named:
            raise ValueError(f"{word[1:]}: no families; expected one pattern of policy names on each line")
        families += named
    return families


def _by_name(kind: str, given: Sequence[str]) -> Slicing:
    """A slice for each name but "", sorted."""
    names = tuple(sorted(set(given) - {""}))
    place = {name: number for number, name in enumerate(names)} | {"": -1}
    return Slicing(kind=kind, names=names, places=tuple(place[name] for name in given))


def _by_length(examples: Sequence[JudgingExample], bands: int) -> Slicing:
    """Bands of response length in characters, of equal mass; equal lengths are never divided."""
    lengths = np.array([len(example.response) for example in examples])
    places, names = calibration.bins(lengths, bands), []
    for band in range(places.max() + 1):
        inside = lengths[places == band]
        names.append(f"{inside.min():,} to {inside.max():,} characters")
    return Slicing(kind="response length", names=tuple(names), places=tuple(map(int, places)))


def _by_difficulty(examples: Sequence[JudgingExample], shares: Mapping[str, float] | None) -> Slicing:
    if shares is None:
        shares = right_shares([(example.problem_id, example.correct) for example in examples])
    bands = [int(np.searchsorted(EDGES, shares[example.problem_id] - 1e-9)) if example.problem_id in shares else -1
             for example in examples]
    used = sorted(set(bands) - {-1})
    place = {band: number for number, band in enumerate(used)} | {-1: -1}
    return Slicing(kind="difficulty", names=tuple(DIFFICULTY[band] for band in used),
                   places=tuple(place[band] for band in bands))
