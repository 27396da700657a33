"""Pairs within problems, by hand."""

import numpy as np
import pytest

from libra_jax.bench import ordering


def test_by_hand():
    # p: right 0.9 and 0.4 against wrong 0.5: one of two pairs. q: a tie. r has one kind and does not count.
    scores, labels = np.array([0.9, 0.4, 0.5, 0.7, 0.7, 0.1]), np.array([True, True, False, True, False, False])
    problems, strata = list("pppqqr"), ["s"] * 6
    assert ordering.pairwise(scores, labels, problems, strata, np.ones((1, 6)))[0] == pytest.approx((0.5 + 0.5) / 2)
    weights = np.array([[1, 1, 1, 0, 0, 4.0], [0, 0, 0, 0, 0, 6]])
    found = ordering.pairwise(np.array([0.9, 0.6, 0.5, 0.7, 0.7, 0.1]), labels, problems, strata, weights)
    assert found[0] == 1.0 and np.isnan(found[1])


def test_one_problem_name_in_two_sources_is_two_problems():
    scores, labels = np.array([0.9, 0.1]), np.array([True, False])
    assert ordering.pairwise(scores, labels, ["p", "p"], ["a", "a"], np.ones((1, 2)))[0] == 1
    assert np.isnan(ordering.pairwise(scores, labels, ["p", "p"], ["a", "b"], np.ones((1, 2)))[0])


def test_it_is_auroc_where_there_is_one_problem():
    from libra_jax.bench import score

    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 5, 30) / 4, rng.random(30) < 0.5
    one = np.ones((1, 30))
    assert ordering.pairwise(scores, labels, ["p"] * 30, ["s"] * 30, one)[0] == pytest.approx(
        score.auroc(scores, labels, one)[0])
