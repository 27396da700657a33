"""Three tiers of verification: a rule decides, a model's votes decide what it left, a person's word beats both."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping

from libra_jax.records import HumanLabel, Judgement, JudgingExample, Problem, Rollout, VerifiedRollout, example_id

KEPT = 1_000  # characters of a person's note in `why`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Word:
    """What people said of one response; `correct` None: they could not tell, or, if `disputed`, said both."""

    correct: bool | None
    disputed: bool
    note: str


def key(each: HumanLabel | Rollout | VerifiedRollout) -> tuple[str, str, int]:
    """(problem id, policy, sample), which names a response."""
    return each.problem_id, each.policy, each.sample


def votes(judgements: Iterable[Judgement]) -> dict[str, collections.Counter]:
    """Verdicts counted by example id; a judge's sample counts once. ValueError when it has two verdicts."""
    given: dict[tuple[str, str, int], str] = {}
    for each in judgements:
        name = (each.example_id, each.judge, each.sample)
        if given.setdefault(name, each.verdict) != each.verdict:
            raise ValueError(f"judge {each.judge!r}, sample {each.sample} of {each.example_id!r} has two verdicts; "
                             "give the judgements of one run")
    found: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for (name, _, _), verdict in given.items():
        found[name][verdict] += 1
    return dict(found)


def words(labels: Iterable[HumanLabel]) -> dict[tuple[str, str, int], Word]:
    """What people said by (problem id, policy, sample); the order of `labels` changes nothing.

    Who could not tell says nothing where another one could. Where one says correct and another incorrect the label is
    disputed: nobody's word is taken.
    """
    said = collections.defaultdict(set)
    notes = collections.defaultdict(set)
    for label in labels:
        said[key(label)].add(label.correct)
        notes[key(label)].add(label.note)
    found = {}
    for name, kinds in said.items():
        disputed = kinds >= {True, False}
        correct = None if disputed else next(iter(kinds - {None}), None)
        found[name] = Word(correct=correct, disputed=disputed, note="; ".join(sorted(notes[name] - {""})))
    return found


def decide(rule: VerifiedRollout, vote: Mapping[str, int] | None, word: Word | None, agreement: float
           ) -> VerifiedRollout:
    """The decision of the highest tier that has one, with the evidence of those below it.

    A model decides what is undecided when at least the share `agreement` (above 1/2) of all votes, unparsed ones
    included, say the same. A person who could not tell leaves the decision as it is; a disputed label is undecided.
    """
    result = rule
    if rule.correct is None and vote:
        needed = agreement * sum(vote.values())
        correct = True if vote["correct"] >= needed else False if vote["incorrect"] >= needed else None
        count = ", ".join(f"{vote[kind]} {kind}" for kind in ("correct", "incorrect", "unparsed"))
        result = dataclasses.replace(rule, correct=correct, decided_by="model",
                                     why=f"votes: {count}; rule: {rule.why}")
    if word and (word.disputed or word.correct is not None):
        said = ("people disagree" if word.disputed else "a person") + (f": {word.note[:KEPT]}" if word.note else "")
        result = dataclasses.replace(result, correct=word.correct, decided_by="human",
                                     why=f"{said}; {result.decided_by}, {_NAMES[result.correct]}: {result.why}")
    return result


def question(rollout: VerifiedRollout, problem: Problem) -> JudgingExample:
    """What a model is asked of an undecided response: unlike in any bench, with the reference where there is one."""
    reference = "" if not problem.answer else (
        f"\n\n(The correct final answer is known: {problem.answer}\nA response is correct if its final answer "
        "means the same.)")
    return JudgingExample(id=example_id(rollout), problem_id=problem.id, question=problem.question + reference,
                          response=rollout.text, correct=None, policy=rollout.policy, source=problem.source)


_NAMES = {True: "correct", False: "incorrect", None: "undecided"}
