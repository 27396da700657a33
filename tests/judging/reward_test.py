"""Rewards against numbers worked by hand."""

import pytest

from libra_jax.judging import reward
from libra_jax.records import Judgement


@pytest.mark.parametrize(("verdict", "label", "expected"), [
    ("correct", True, 1.0), ("incorrect", False, 1.0), ("correct", False, 0.0), ("incorrect", True, 0.0),
    ("unparsed", True, 0.0), ("unparsed", False, 0.0),
])
def test_verdict_reward(verdict, label, expected):
    assert reward.verdict_reward(verdict, label) == expected


@pytest.mark.parametrize(("num_tokens", "expected", "maximum", "term"), [
    (0, 100, 200, 0.0), (100, 100, 200, 0.0), (125, 100, 200, -0.25), (150, 100, 200, -0.5), (200, 100, 200, -1.0),
    (900, 100, 200, -1.0), (100, 100, 100, 0.0), (101, 100, 100, -1.0), (0, 0, 0, 0.0),
])
def test_length_term(num_tokens, expected, maximum, term):
    assert reward.length_term(num_tokens, expected, maximum) == term


@pytest.mark.parametrize("lengths", [(5, 20, 10), (-1, 0, 10), (5, -3, 10)])
def test_impossible_lengths(lengths):
    with pytest.raises(ValueError, match="expected"):
        reward.length_term(*lengths)


@pytest.mark.parametrize(("verdicts", "expected"), [
    (["correct", "incorrect", "unparsed", "correct"], 2 / 3), (["incorrect"], 0.0), (["unparsed"], None), ([], None),
])
def test_score(verdicts, expected):
    judgements = [Judgement(example_id="e", judge="j", sample=i, thought="", verdict=v, num_tokens=1)
                  for i, v in enumerate(verdicts)]
    assert reward.score(judgements) == expected


@pytest.mark.parametrize(("choice", "right", "expected"), [(0, 0, 1.0), (2, 2, 1.0), (1, 0, 0.0), (None, 0, 0.0)])
def test_ranking_reward(choice, right, expected):
    assert reward.ranking_reward(choice, right) == expected
