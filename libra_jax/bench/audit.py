"""Audits of labels: where rule, model and judges disagree is drawn for people, whose labels say how noisy labels are.

Rollouts are drawn by hash within strata (kind of disagreement, source), so order of the input changes nothing, and the
weight of a drawn one says how many it stands for. Agreements are drawn too: without them nobody would ever see the
labels on which everybody is wrong alike.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from libra_jax.records import HumanLabel, Judgement, JudgingExample, Problem, VerifiedRollout

Key = tuple[str, str, int]  # problem, policy, sample
Stratum = tuple[str, str]  # kind, source
_SAMPLE = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a judge said of a response, by the majority of its parsed votes; "none" for a tie or no parsed vote.

    `votes` is (correct, incorrect, unparsed); `thought` belongs to the first vote that is as the majority.
    """

    judge: str
    verdict: Literal["correct", "incorrect", "none"]
    votes: tuple[int, int, int]
    thought: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A labelled response with the judges' opinions; `kind` says who disagrees, `weight` for how many a drawn one
    stands (0: not drawn). `decided_by` is "label" where nobody knows who decided."""

    id: str
    problem_id: str
    policy: str
    sample: int
    source: str
    question: str
    response: str
    reference: str | None
    correct: bool | None
    decided_by: Literal["rule", "model", "human", "label"]
    why: str
    opinions: tuple[Opinion, ...]
    kind: str
    weight: float = 0.0

    @property
    def key(self) -> Key:
        """What a HumanLabel names it by."""
        return self.problem_id, self.policy, self.sample

    @property
    def stratum(self) -> Stratum:
        """What it is drawn within."""
        return self.kind, self.source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draw:
    """How many are drawn: disagreements as evenly over their strata as can be, agreements in proportion to theirs.

    Every stratum gets at least one, since what is never drawn is never estimated.

    Attributes:
      disagreements: responses drawn of which judges and label, or two judges, disagree.
      agreements: responses drawn of which they agree.
      seed: of the draw.
    """

    disagreements: int = 60
    agreements: int = 40
    seed: int = 0

    def __post_init__(self):
        if self.disagreements < 0 or self.agreements < 0:
            raise ValueError(f"disagreements={self.disagreements}, agreements={self.agreements}: expected 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class People:
    """People's labels of drawn items by item id, those `disputed` between them (correct None), and how many labels are
    of `strangers`, which were not drawn."""

    labels: Mapping[str, HumanLabel]
    disputed: frozenset[str]
    strangers: int


def gather(examples: Sequence[JudgingExample], rollouts: Iterable[VerifiedRollout], problems: Mapping[str, Problem],
           judgements_by_judge: Mapping[str, Iterable[Judgement]]) -> list[Item]:
    """The audited set, by id: the examples, or all rollouts where no examples are given.

    Where rollouts are given their labels count, and every example must be one of them with the same text. `problems`
    (by id) bring references, and the questions of rollouts. ValueError for an example without its rollout, a rollout
    without its question, one id given twice, or a judgement of a response that is not in the set.
    """
    verified = {f"{each.problem_id}/{each.policy}/{each.sample}": each for each in rollouts}
    keys = _keys(examples) if examples else {name: (each.problem_id, each.policy, each.sample)
                                             for name, each in verified.items()}
    if len(keys) < len(examples):
        raise ValueError(f"{len(examples)} examples with {len(keys)} different ids; give each once")
    opinions = _opinions(judgements_by_judge, keys)
    by_id = {example.id: example for example in examples}
    items = []
    for name, (problem_id, policy, sample) in sorted(keys.items()):
        example, problem = by_id.get(name), problems.get(problem_id)
        rollout = verified.get(f"{problem_id}/{policy}/{sample}")
        if verified and (rollout is None or (example and example.response != rollout.text)):
            raise ValueError(f"example {name!r}: its rollout {'has another text' if rollout else 'is not there'}; give "
                             "the verified rollouts that the examples were curated from")
        if example:
            source, question, response, correct = example.source, example.question, example.response, example.correct
        elif problem and rollout:
            source, question, response, correct = problem.source, problem.question, rollout.text, None
        else:
            raise ValueError(f"the question of rollout {name!r} is not known; give --config.problems or examples")
        correct = rollout.correct if rollout else correct
        decided_by = rollout.decided_by if rollout else "label"
        items.append(Item(
            id=name, problem_id=problem_id, policy=policy, sample=sample, correct=correct, decided_by=decided_by,
            source=source, why=rollout.why if rollout else "", question=question, response=response,
            reference=problem.answer if problem else None,
            opinions=opinions[name], kind=kind(correct, decided_by, opinions[name])))
    return items


def kind(correct: bool | None, decided_by: str, opinions: Sequence[Opinion]) -> str:
    """Who disagrees, in words, such as "rule says correct, all judges disagree"; strata are made of these."""
    if correct is None:
        return "undecided"
    says = "correct" if correct else "incorrect"
    agree = [opinion.verdict == says for opinion in opinions if opinion.verdict != "none"]
    who = ("no judge" if not agree else "judges agree" if all(agree) else
           "some judges disagree" if any(agree) else "all judges disagree")
    return f"{decided_by} says {says}, {who}"


def is_disagreement(item: Item) -> bool:
    """Whether some judge contradicts the label, or there is none."""
    return item.correct is None or item.kind.endswith("disagree")


def draw(items: Sequence[Item], config: Draw) -> list[Item]:
    """The drawn items with their weights, in hash order, so that an item's place does not tell its kind.

    ValueError when there are more strata than may be drawn.
    """
    strata: dict[Stratum, list[Item]] = collections.defaultdict(list)
    for item in sorted(items, key=lambda item: _hash(config.seed, item.id)):
        strata[item.stratum].append(item)
    sizes = {True: {}, False: {}}
    for stratum, members in sorted(strata.items()):
        sizes[is_disagreement(members[0])][stratum] = len(members)
    counts = _allocate(sizes[True], dict.fromkeys(sizes[True], 1), config.disagreements, "disagreements")
    counts |= _allocate(sizes[False], sizes[False], config.agreements, "agreements")
    drawn = [dataclasses.replace(item, weight=len(members) / counts[stratum])
             for stratum, members in strata.items() for item in members[:counts[stratum]]]
    return sorted(drawn, key=lambda item: _hash(config.seed, item.id))


def matched(drawn: Sequence[Item], labels: Iterable[HumanLabel]) -> People:
    """What people said of drawn items; the order of `labels` changes nothing.

    Who could not tell says nothing where another one could. Where one says correct and another incorrect the item is
    disputed, and nobody's word is taken: its label is None.
    """
    ids = {item.key: item.id for item in drawn}
    found: dict[str, list[HumanLabel]] = collections.defaultdict(list)
    strangers = 0
    for label in labels:
        name = ids.get((label.problem_id, label.policy, label.sample))
        if name is None:
            strangers += 1
        else:
            found[name].append(label)
    words, disputed = {}, set()
    for name, some in found.items():
        kinds = {label.correct for label in some}
        if kinds >= {True, False}:
            disputed.add(name)
            kinds = {None}
        notes = "; ".join(sorted({label.note for label in some} - {""}))
        words[name] = dataclasses.replace(some[0], correct=next(iter(kinds - {None}), None), note=notes)
    return People(labels=words, disputed=frozenset(disputed), strangers=strangers)


def _opinions(judgements_by_judge: Mapping[str, Iterable[Judgement]], ids: Iterable[str]
              ) -> dict[str, tuple[Opinion, ...]]:
    found: dict[str, tuple[Opinion, ...]] = dict.fromkeys(ids, ())
    for judge, judgements in judgements_by_judge.items():
        said: dict[str, list[Judgement]] = collections.defaultdict(list)
        for judgement in judgements:
            if judgement.example_id not in found:
                raise ValueError(f"judge {judge!r} judged {judgement.example_id!r}, which is not audited here; "
                                 "give the examples that were judged, or all rollouts")
            said[judgement.example_id].append(judgement)
        for name, some in said.items():
            found[name] += (_opinion(judge, some),)
    return found


def _opinion(judge: str, judgements: Sequence[Judgement]) -> Opinion:
    verdicts = collections.Counter(judgement.verdict for judgement in judgements)
    lead = verdicts["correct"] - verdicts["incorrect"]
    verdict = "correct" if lead > 0 else "incorrect" if lead < 0 else "none"
    thought = next((each.thought for each in judgements if each.verdict == verdict), judgements[0].thought)
    return Opinion(judge=judge, verdict=verdict, thought=thought,
                   votes=(verdicts["correct"], verdicts["incorrect"], verdicts["unparsed"]))


def _keys(examples: Sequence[JudgingExample]) -> dict[str, Key]:
    """The key of each example by id. V2V's ids end in the sample; others count within (problem, policy), by id."""
    pairs = {example.id: (example.problem_id, example.policy) for example in examples}
    ends = {name: name.removeprefix(f"{problem_id}/{policy}/") for name, (problem_id, policy) in pairs.items()}
    if all(_SAMPLE.fullmatch(end) for end in ends.values()):
        return {name: (*pair, int(ends[name])) for name, pair in pairs.items()}
    counts: collections.Counter = collections.Counter()
    numbered = {}
    for name, pair in sorted(pairs.items()):
        numbered[name] = (*pair, counts[pair])
        counts[pair] += 1
    return numbered


def _allocate(sizes: Mapping[Stratum, int], shares: Mapping[Stratum, int], total: int, what: str) -> dict[Stratum, int]:
    """How many to draw of each stratum: `total`, or all there are; one each, and then by `shares` (D'Hondt)."""
    if total < len(sizes):
        raise ValueError(f"{what}={total}: they are of {len(sizes)} kinds and sources, and each needs at least one; "
                         f"expected --config.draw.{what}={len(sizes)} or more")
    counts = dict.fromkeys(sizes, 1)
    for _ in range(min(total, sum(sizes.values())) - len(sizes)):
        room = [stratum for stratum in sizes if counts[stratum] < sizes[stratum]]
        counts[max(room, key=lambda stratum: shares[stratum] / (counts[stratum] + 1))] += 1
    return counts


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()
