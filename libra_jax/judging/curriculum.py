"""A curriculum by pass rate: which examples a judge learns from, and in which order, by how often it is right."""

from __future__ import annotations

import collections
import dataclasses
import fractions
import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

from libra_jax.records import Judgement, JudgingExample


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Attributes:
    lowest, highest: examples stay whose pass rate lies between, both included.
    keep_never_right: examples without any right judgement stay whatever `lowest` is: none of a few judgements was
      right, which does not say that none ever is.
    order: "shuffled", or "easy_first": every epoch goes from the highest pass rate to the lowest, equal ones in an
      order drawn by a hash.
    seed: of that hash.
    """

    lowest: float = 0.0
    highest: float = 1.0
    keep_never_right: bool = True
    order: Literal["shuffled", "easy_first"] = "shuffled"
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stats:
    """Counts of examples: those left out, for each reason, and `chosen` add up to all of them.

    `unjudged` have no judgement. `never_right` counts, among the chosen, those without a right judgement.
    """

    unjudged: int
    too_hard: int
    too_easy: int
    chosen: int
    never_right: int


def pass_rates(examples: Sequence[JudgingExample], judgements: Iterable[Judgement]) -> dict[str, fractions.Fraction]:
    """The share of each example's judgements whose verdict is the label, by example id; unparsed ones are not right.

    Exact, so that 3 of 10 lies within 0.3. Examples without a judgement are not in it. ValueError for one without a
    label that has judgements, or for judgements of which none is of these examples; others' are not looked at.
    """
    labels = {example.id: example.correct for example in examples}
    right, total = collections.Counter(), collections.Counter()
    others = 0
    for judgement in judgements:
        if judgement.example_id not in labels:
            others += 1
            continue
        label = labels[judgement.example_id]
        if label is None:
            raise ValueError(f"example {judgement.example_id!r} has no label; a pass rate needs one")
        total[judgement.example_id] += 1
        right[judgement.example_id] += judgement.verdict == ("correct" if label else "incorrect")
    if others and not total:
        raise ValueError(f"none of the {others} judgements is of the {len(examples)} examples; give judgements of "
                         "these examples")
    return {name: fractions.Fraction(right[name], count) for name, count in total.items()}


def choose(examples: Sequence[JudgingExample], judgements: Iterable[Judgement], config: CurriculumConfig
           ) -> tuple[list[JudgingExample], Stats]:
    """The examples to learn from, in their order or from easy to hard, and the counts. A pure function.

    ValueError as `pass_rates`, for bounds that no rate can lie between, or when no example is left.
    """
    if not 0 <= config.lowest <= config.highest <= 1:
        raise ValueError(f"lowest={config.lowest}, highest={config.highest}: expected 0 <= lowest <= highest <= 1")
    rates = pass_rates(examples, judgements)
    lowest, highest = (fractions.Fraction(str(bound)) for bound in (config.lowest, config.highest))
    counts: collections.Counter[str] = collections.Counter()
    chosen = []
    for example in examples:
        rate = rates.get(example.id)
        if rate is None:
            counts["unjudged"] += 1
        elif rate > highest:
            counts["too_easy"] += 1
        elif rate < lowest and not (rate == 0 and config.keep_never_right):
            counts["too_hard"] += 1
        else:
            counts["never_right"] += rate == 0
            chosen.append(example)
    names = [field.name for field in dataclasses.fields(Stats) if field.name != "chosen"]
    stats = Stats(**{name: counts[name] for name in names}, chosen=len(chosen))
    if not chosen:
        raise ValueError(f"no example has a pass rate from {config.lowest} to {config.highest}: {stats.unjudged} have "
                         f"no judgement, {stats.too_hard} a lower one, {stats.too_easy} a higher one; widen the bounds")
    if config.order == "easy_first":
        chosen.sort(key=lambda example: (-rates[example.id], _draw(config.seed, example.id)))
    return chosen, stats


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/curriculum/{name}".encode("utf-8", "surrogatepass")).digest()
