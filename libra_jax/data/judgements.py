"""Which judgements SFT learns from: those that rejection sampling kept, or, to see what that is worth, other ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from libra_jax.records import Judgement, JudgingExample

Learn = Literal["kept", "any", "labels"]
Pair = tuple[JudgingExample, Judgement]


def chosen(examples: Sequence[JudgingExample], judgements: Sequence[Judgement], learn: Learn = "kept",
           policies: Sequence[str] = (), *, files: tuple[str, str] = ("examples", "judgements")) -> list[Pair]:
    """The judgements to learn from, each with its example, in the order of their file.

    "kept": all of them, each of which must say what the label says. "any": of each example the first that is parsed,
    right or wrong. "labels": the label of every example that has one, without a thought; there are no judgements then.
    `policies`: those on responses of these policies alone; empty: of all. `files` are what messages call the two.

    ValueError for a judgement of an unknown example, one of "kept" that is not right, a policy that gave none of the
    responses, or where nothing is left.
    """
    known = {example.id: example for example in examples}
    names = {example.policy for example in examples}
    for policy in policies:
        if policy not in names:
            raise ValueError(f"policies={','.join(policies)}: no response of {files[0]} is by {policy!r}; expected "
                             f"some of {', '.join(sorted(names))}")
    if learn == "labels":
        judgements = [_label(example) for example in examples if example.correct is not None]
    pairs: list[Pair] = []
    for judgement in judgements:
        example = _of(judgement, known, files)
        if learn == "kept":
            _need_right(judgement, example, files)
        pairs.append((example, judgement))
    if learn == "any":
        pairs = _first_parsed(pairs)
    pairs = [pair for pair in pairs if not policies or pair[0].policy in policies]
    if not pairs:
        raise ValueError(f"learn={learn}, policies={','.join(policies)}: no judgement is left to learn from; give a "
                         "file that has some")
    return pairs


def _first_parsed(pairs: Sequence[Pair]) -> list[Pair]:
    first: dict[str, Pair] = {}
    for example, judgement in pairs:
        if judgement.verdict != "unparsed":
            first.setdefault(example.id, (example, judgement))
    return list(first.values())


def _label(example: JudgingExample) -> Judgement:
    return Judgement(example_id=example.id, judge="label", sample=0, thought="", num_tokens=0,
                     verdict="correct" if example.correct else "incorrect")


def _of(judgement: Judgement, known: Mapping[str, JudgingExample], files: tuple[str, str]) -> JudgingExample:
    if judgement.example_id not in known:
        raise ValueError(f"{files[1]}: example {judgement.example_id!r} is not in {files[0]} (or its line is broken); "
                         "give the file that `libra reject` judged")
    return known[judgement.example_id]


def _need_right(judgement: Judgement, example: JudgingExample, files: tuple[str, str]) -> None:
    label = None if example.correct is None else "correct" if example.correct else "incorrect"
    if judgement.verdict == "unparsed" or label not in (None, judgement.verdict):
        raise ValueError(f"{files[1]}: a judgement of {example.id!r} says {judgement.verdict!r}, the label is "
                         f"{label!r}; give the kept.jsonl of `libra reject`, not its judgements.jsonl")
