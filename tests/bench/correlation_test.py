"""Correlation between judges' figures: by hand, against scipy, and its interval in simulation."""

import numpy as np
import pytest
import scipy.stats

from libra_jax.bench import correlation
from libra_jax.bench.significance import Bootstrap


def test_by_hand():
    found = correlation.of([0.5, 0.6, 0.7], [1.0, 3.0, 2.0])
    assert found["pearson"].value == pytest.approx(0.5)  # (-1, 0, 1) . (-1, 1, 0) / 2
    assert found["spearman"].value == pytest.approx(0.5)
    assert correlation.ranks(np.array([[10, 5, 5]])).tolist() == [[2, 0.5, 0.5]]


def test_as_scipy_also_with_ties():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 40), rng.normal(size=40)
    found = correlation.of(x, x + y)
    assert found["pearson"].value == pytest.approx(scipy.stats.pearsonr(x, x + y).statistic)
    assert found["spearman"].value == pytest.approx(scipy.stats.spearmanr(x, x + y).statistic)


def test_the_interval_covers_the_truth_about_as_often_as_told():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        x = rng.normal(size=25)
        y = 0.6 * x + 0.8 * rng.normal(size=25)  # correlation 0.6
        found = correlation.of(x, y, Bootstrap(num_resamples=300))["pearson"]
        covered += found.low <= 0.6 <= found.high
    assert 0.86 <= covered / 200 <= 0.99


def test_what_does_not_vary_has_no_correlation_and_two_judges_are_too_few():
    assert correlation.of([1, 1, 1], [1, 2, 3])["pearson"].value is None
    with pytest.raises(ValueError, match="2 and 2 judges"):
        correlation.of([1, 2], [1, 2])
