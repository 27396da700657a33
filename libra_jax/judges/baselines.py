"""Judges without a model, which every reward model should beat: majority answer, response length, always correct."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from libra_jax.records import Judgement, JudgingExample

if TYPE_CHECKING:
    from libra_jax.verify.batch import Decision

# Pairs of answers -> whether each pair is equal, in order, as verify.batch.compare
Compare = Callable[[Iterable[tuple[str, str]]], Iterator["Decision"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MajorityAnswer:
    """A response is correct when its final answer is the commonest among all given responses to its problem.

    Score: the share of the problem's responses that give the same answer. Of equally common answers the one given
    first counts. A response without a recognisable answer is incorrect, with score 0. The vote is over the examples
    themselves, so a set balanced by V2V holds it down, unlike a vote over a policy's own samples.
    """

    name: str = "majority_answer"

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """As Judge.judge."""
        from libra_jax.verify import extract  # here, since only this judge needs it

        by_problem: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            by_problem.setdefault(example.problem_id, []).append(index)
        answers = {name: [extract.extract(examples[index].response) for index in indices]
                   for name, indices in by_problem.items()}
        outcomes: dict[int, tuple[bool, float, str]] = {}
        for name, votes in number_answers(answers).items():
            counts = [votes.count(vote) for vote in votes]
            ranked = [(count, vote) for count, vote in zip(counts, votes, strict=True) if vote is not None]
            winner = next((vote for count, vote in ranked if count == max(ranked)[0]), None)
            for index, answer, vote, count in zip(by_problem[name], answers[name], votes, counts, strict=True):
                share = count / len(votes) if vote is not None else 0.0
                thought = "no answer found" if answer is None else f"answer {answer[:200]}: {count} of {len(votes)}"
                outcomes[index] = (vote is not None and vote == winner, share, thought)
        for index, example in enumerate(examples[skip:], skip):
            yield _judgement(self.name, example, *outcomes[index])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResponseLength:
    """A response is correct when it is no longer than the median of the given responses ("short"), or longer ("long").

    Length is in characters. Score: the share of the responses that are longer ("short"), or shorter, with ties half.
    """

    name: str = "response_length"
    prefer: Literal["short", "long"] = "short"

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """As Judge.judge."""
        lengths = sorted(len(example.response) for example in examples)
        for example in examples[skip:]:
            length = len(example.response)
            below, upto = bisect.bisect_left(lengths, length), bisect.bisect_right(lengths, length)
            score = (below + upto) / 2 / len(lengths)
            short = length <= lengths[(len(lengths) - 1) // 2]
            score, correct = (1 - score, short) if self.prefer == "short" else (score, not short)
            yield _judgement(self.name, example, correct, score, f"{length} characters")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlwaysCorrect:
    """Calls every response correct: its accuracy is the share of correct responses."""

    name: str = "always_correct"

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """As Judge.judge."""
        for example in examples[skip:]:
            yield _judgement(self.name, example, True, 1.0, "")


BASELINES: dict[str, Callable] = {
    "majority_answer": MajorityAnswer, "response_length": ResponseLength, "always_correct": AlwaysCorrect}


def number_answers(answers: Mapping[str, Sequence[str | None]],
                   compare: Compare | None = None) -> dict[str, list[int | None]]:
    """Numbers the answers within each problem so that equal ones share a number; None stays None.

    Answers are compared by verify: by its exact path here, and what that leaves by `compare`, by default
    verify/batch.py's, which is bounded in time. Two that it cannot decide are two answers.
    """
    from libra_jax.verify import batch, equal

    distinct = {name: list(dict.fromkeys(answer for answer in given if answer is not None))
                for name, given in answers.items()}
    pairs = [(name, later, earlier) for name, few in distinct.items()
             for later in range(len(few)) for earlier in range(later)]
    texts = [(distinct[name][later], distinct[name][earlier]) for name, later, earlier in pairs]
    same = [equal.fast_equal(*pair) for pair in texts]
    hard = [place for place, decided in enumerate(same) if decided is None]
    if hard:
        decisions = (compare or batch.compare)(texts[place] for place in hard)
        for place, decision in zip(hard, decisions, strict=True):
            same[place] = decision.correct
    number = {name: list(range(len(few))) for name, few in distinct.items()}
    for (name, later, earlier), one in zip(pairs, same, strict=True):
        if one and number[name][later] == later:
            number[name][later] = number[name][earlier]
    return {name: [None if answer is None else number[name][distinct[name].index(answer)] for answer in given]
            for name, given in answers.items()}


def _judgement(name: str, example: JudgingExample, correct: bool, score: float, thought: str) -> Judgement:
    return Judgement(example_id=example.id, judge=name, sample=0, thought=thought,
                     verdict="correct" if correct else "incorrect", num_tokens=0, score=score)
