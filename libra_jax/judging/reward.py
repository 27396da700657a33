"""Rewards of judgements, and the score that several judgements give a response."""

from __future__ import annotations

from collections.abc import Iterable

from libra_jax.records import Judgement, Verdict


def verdict_reward(verdict: Verdict, label: bool) -> float:
    """1.0 where the verdict says what `label` (the response is correct) says, else 0.0; "unparsed" is always 0.0."""
    return float(verdict == ("correct" if label else "incorrect"))


def ranking_reward(choice: int | None, right: int) -> float:
    """1.0 where the response that was chosen, by its place, is the right one, else 0.0; None (unparsed) is 0.0."""
    return float(choice == right)


def length_term(num_tokens: int, expected: int, maximum: int) -> float:
    """The length penalty, added to the verdict's reward (arXiv 2507.21645, equation 4, in words).

    0 up to `expected` tokens, then linear down to -1 at `maximum`, and -1 beyond. Deviation: where expected equals
    maximum, which the paper leaves undefined, it is a step: 0 up to expected, -1 beyond. Raises ValueError for
    expected > maximum or negative lengths. Worked: length_term(150, 100, 200) == -0.5.
    """
    if not 0 <= expected <= maximum or num_tokens < 0:
        raise ValueError(f"length_term({num_tokens}, expected={expected}, maximum={maximum}): lengths must not be "
                         "negative and expected must not exceed maximum")
    if num_tokens <= expected:
        return 0.0
    if num_tokens >= maximum:
        return -1.0
    return -(num_tokens - expected) / (maximum - expected)


def score(judgements: Iterable[Judgement]) -> float | None:
    """The share of "correct" among the parsed verdicts of one example, in [0, 1]; None when none is parsed."""
    verdicts = [judgement.verdict for judgement in judgements if judgement.verdict != "unparsed"]
    return verdicts.count("correct") / len(verdicts) if verdicts else None


def mean_score(judgements: Iterable[Judgement]) -> float | None:
    """The mean of the scores that judgements have, else the share of "correct" as `score`; None for neither."""
    judgements = list(judgements)
    given = [judgement.score for judgement in judgements if judgement.score is not None]
    return sum(given) / len(given) if given else score(judgements)
