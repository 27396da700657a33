"""Rejection sampling of judgements: keep those whose verdict is the label, few an example, the best of them."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

from libra_jax.records import Judgement, JudgingExample


@dataclasses.dataclass(frozen=True, kw_only=True)
class RejectionConfig:
    """What is kept for SFT.

    Attributes:
      max_per_example: at most so many judgements of one example.
      easy_fraction: share of the always-right examples that is kept (drawn by a hash of example id and seed); an
        example needs at least two judgements to count as always right.
      easy_per_example: at most so many judgements of an always-right example.
      prefer: "diverse": the shortest, then what differs most from those kept. "agreed": the thoughts that most right
        judgements of the example share word for word, then the shorter (self-consistency, arXiv 2203.11171, of whole
        thoughts): where thoughts are short enough to repeat, one that stands alone often found its verdict by luck.
      length_weight: what length costs against novelty, for "diverse" alone; a judgement as long as the example's
        longest loses this much, while one that shares no three words in a row with those kept gains 1.
      balance: keep as many judgements of correct as of incorrect responses, by leaving out whole examples of the more
        frequent kind (drawn by a hash).
      seed: of the draws.
    """

    max_per_example: int = 2
    easy_fraction: float = 0.5
    easy_per_example: int = 1
    prefer: Literal["diverse", "agreed"] = "diverse"
    length_weight: float = 0.5
    balance: bool = False
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stats:
    """Counts of one selection. `never_right` are ids of examples with judgements of which none was right, for RL.

    `right` counts judgements whose verdict is the label, `duplicates` those of them that repeat a thought of the same
    example; `unlabelled` and `unjudged` are examples without a label, or without a judgement. `kept_correct` and
    `kept_incorrect` count kept judgements by label.
    """

    examples: int
    unlabelled: int
    unjudged: int
    judgements: int
    right: int
    wrong: int
    unparsed: int
    duplicates: int
    always_right: int
    always_right_left_out: int
    balanced_out: int
    kept: int
    kept_correct: int
    kept_incorrect: int
    never_right: tuple[str, ...]


def select(examples: Sequence[JudgingExample], judgements: Iterable[Judgement], config: RejectionConfig
           ) -> tuple[list[Judgement], Stats]:
    """The judgements worth training on, in order of examples and samples, and the counts. A pure function.

    Raises ValueError for a judgement of an unknown example, two examples of one id, or settings out of range.
    """
    check(config)
    by_example: dict[str, list[Judgement]] = {example.id: [] for example in examples}
    if len(by_example) < len(examples):
        twice = collections.Counter(example.id for example in examples).most_common(1)[0][0]
        raise ValueError(f"example id {twice!r} occurs twice; ids must be unique")
    for judgement in judgements:
        if judgement.example_id not in by_example:
            raise ValueError(f"a judgement of example {judgement.example_id!r}, which is not among the "
                             f"{len(examples)} given; expected judgements of these examples alone")
        by_example[judgement.example_id].append(judgement)
    kept: dict[str, list[Judgement]] = {}
    counts: collections.Counter[str] = collections.Counter()
    never_right = []
    for example in examples:
        given = by_example[example.id]
        counts["unlabelled"] += example.correct is None
        counts["unjudged"] += not given
        label = None if example.correct is None else "correct" if example.correct else "incorrect"
        right = [judgement for judgement in given if judgement.verdict == label]
        unparsed = sum(judgement.verdict == "unparsed" for judgement in given)
        distinct, votes = _distinct(right)
        counts.update(judgements=len(given), right=len(right), unparsed=unparsed, duplicates=len(right) - len(distinct))
        if label is not None:
            counts["wrong"] += len(given) - len(right) - unparsed
            if given and not right:
                never_right.append(example.id)
        most = config.max_per_example
        if len(right) == len(given) > 1:
            counts["always_right"] += 1
            most = min(most, config.easy_per_example)
            if _draw(config.seed, "easy", example.id) >= config.easy_fraction:
                counts["always_right_left_out"] += 1
                continue
        if distinct and most and config.prefer == "agreed":
            ranked = sorted(distinct, key=lambda judgement: (-votes[_words(judgement)], *_shortness(judgement)))
            kept[example.id] = sorted(ranked[:most], key=lambda judgement: judgement.sample)
        elif distinct and most:
            kept[example.id] = _choose(distinct, most, config.length_weight)
    if config.balance:
        counts["balanced_out"] = _balance(examples, kept, config.seed)
    result = [judgement for example in examples for judgement in kept.get(example.id, ())]
    kept_correct = sum(judgement.verdict == "correct" for judgement in result)
    names = [field.name for field in dataclasses.fields(Stats)][1:11]
    stats = Stats(examples=len(examples), **{name: counts[name] for name in names}, kept=len(result),
                  kept_correct=kept_correct, kept_incorrect=len(result) - kept_correct, never_right=tuple(never_right))
    return result, stats


def pool(rounds: Sequence[Sequence[Judgement]]) -> list[Judgement]:
    """The judgements of several rounds of the same examples as if one round had drawn them all, for `select`.

    Sample numbers go on from one round to the next, so that each is there once an example.
    """
    every, first = [], 0
    for judgements in rounds:
        every += [dataclasses.replace(each, sample=first + each.sample) for each in judgements]
        first += 1 + max((each.sample for each in judgements), default=-1)
    return every


def _distinct(judgements: Sequence[Judgement]) -> tuple[list[Judgement], collections.Counter]:
    """The shortest judgement (by tokens, then by sample number) of each thought, and how many share each thought."""
    first: dict[tuple[str, ...], Judgement] = {}
    for judgement in sorted(judgements, key=_shortness):
        first.setdefault(_words(judgement), judgement)
    return list(first.values()), collections.Counter(map(_words, judgements))


def _words(judgement: Judgement) -> tuple[str, ...]:
    """A thought, spaces aside."""
    return tuple(judgement.thought.split())


def _choose(judgements: Sequence[Judgement], most: int, length_weight: float) -> list[Judgement]:
    """Greedily: the shortest, then again and again the one with most novelty less cost of length; ordered by sample."""
    left = sorted(judgements, key=_shortness)
    longest = max(1, left[-1].num_tokens)
    chosen = [left.pop(0)]
    shingles = {judgement.sample: _shingles(judgement.thought) for judgement in judgements}
    while left and len(chosen) < most:
        def worth(judgement: Judgement) -> float:
            likeness = max(_jaccard(shingles[judgement.sample], shingles[other.sample]) for other in chosen)
            return 1 - likeness - length_weight * judgement.num_tokens / longest

        best = max(left, key=worth)  # the first, so the shorter, of equals
        left.remove(best)
        chosen.append(best)
    return sorted(chosen, key=lambda judgement: judgement.sample)


def _balance(examples: Sequence[JudgingExample], kept: dict[str, list[Judgement]], seed: int) -> int:
    """Drops examples of the more frequent label from `kept`, as long as that brings the two closer; returns how many
    judgements went."""
    sizes = collections.Counter()
    for example in examples:
        sizes[example.correct] += len(kept.get(example.id, ()))
    more = sizes[True] > sizes[False]
    surplus, gone = abs(sizes[True] - sizes[False]), 0
    candidates = [example.id for example in examples if example.correct is more and example.id in kept]
    for example_id in sorted(candidates, key=lambda name: (_draw(seed, "balance", name), name)):
        if len(kept[example_id]) <= surplus:
            size = len(kept.pop(example_id))
            surplus, gone = surplus - size, gone + size
    return gone


def _shortness(judgement: Judgement) -> tuple[int, int]:
    return judgement.num_tokens, judgement.sample


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = text.split()
    return frozenset(tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2)))


def _jaccard(one: frozenset, other: frozenset) -> float:
    return len(one & other) / len(one | other)


def _draw(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def check(config: RejectionConfig) -> None:
    """ValueError for settings out of range."""
    for name in ("max_per_example", "easy_per_example"):
        if getattr(config, name) < 0:
            raise ValueError(f"{name}={getattr(config, name)}: expected 0 or more")
    if config.prefer not in ("diverse", "agreed"):
        raise ValueError(f"prefer={config.prefer!r}: expected diverse or agreed")
    if not 0 <= config.easy_fraction <= 1:
        raise ValueError(f"easy_fraction={config.easy_fraction}: expected a share between 0 and 1")
