"""Intervals: their width, their clusters, their coverage."""

import numpy as np
import pytest

from libra_jax.bench import significance
from libra_jax.bench.significance import Bootstrap


def mean_of(values):
    values = np.asarray(values, float)
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


def test_weights_draw_whole_problems_within_their_stratum():
    problems, strata = ["p", "p", "q", "r", "s"], ["a", "a", "a", "b", "b"]
    drawn = significance.weights(problems, strata, Bootstrap(num_resamples=200))
    assert drawn.shape == (200, 5)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 0] + drawn[:, 2] == 2).all() and (drawn[:, 3] + drawn[:, 4] == 2).all()
    assert set(drawn[:, 2]) == {0, 1, 2}
    again = significance.weights(problems, strata, Bootstrap(num_resamples=200))
    other = significance.weights(problems, strata, Bootstrap(num_resamples=200, seed=1))
    assert (drawn == again).all() and (drawn != other).any()
    order = [3, 1, 4, 2, 0]
    shuffled = significance.weights([problems[i] for i in order], [strata[i] for i in order],
                                    Bootstrap(num_resamples=200))
    assert (shuffled == drawn[:, order]).all()


def test_copies_of_a_response_do_not_narrow_the_interval():
    values = np.random.default_rng(0).random(50) < 0.6
    problems = [f"{n}" for n in range(50)]
    once = significance.estimate(mean_of(values), problems, ["s"] * 50, Bootstrap())["mean"]
    many = significance.estimate(mean_of(np.repeat(values, 8)), list(np.repeat(problems, 8)), ["s"] * 400,
                                 Bootstrap())["mean"]
    assert (many.value, many.low, many.high) == pytest.approx((once.value, once.low, once.high))
    apart = significance.estimate(mean_of(np.repeat(values, 8)), [f"{n}" for n in range(400)], ["s"] * 400,
                                  Bootstrap())["mean"]
    assert apart.high - apart.low < 0.5 * (many.high - many.low)


def test_the_interval_is_as_wide_as_theory_says_and_covers():
    rng = np.random.default_rng(1)
    problems, strata = [f"{n}" for n in range(200)], ["s"] * 200
    covered, widths = 0, []
    for _ in range(200):
        found = significance.estimate(mean_of(rng.random(200) < 0.7), problems, strata,
                                      Bootstrap(num_resamples=300))["mean"]
        covered += found.low <= 0.7 <= found.high
        widths.append(found.high - found.low)
    assert 0.89 <= covered / 200 <= 0.99
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 200), rel=0.06)


def test_chunks_change_nothing(monkeypatch):
    values, problems = np.arange(30.0), [f"{n // 2}" for n in range(30)]
    whole = significance.estimate(mean_of(values), problems, ["s"] * 30, Bootstrap())
    monkeypatch.setattr(significance, "_CHUNK", 100)
    parts = significance.estimate(mean_of(values), problems, ["s"] * 30, Bootstrap())
    assert (parts["mean"].low, parts["mean"].high) == pytest.approx((whole["mean"].low, whole["mean"].high))


def test_one_problem_has_no_interval_and_nan_is_none():
    found = significance.estimate(mean_of([1, 0]), ["p", "p"], ["s", "s"], Bootstrap())["mean"]
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert significance.interval(np.array([np.nan, np.nan]), 0.95) == (None, None)
    assert significance.interval(np.array([np.nan, 1.0, 3.0]), 0.5) == (1.5, 2.5)


@pytest.mark.parametrize("wrong", [{"num_resamples": 0}, {"level": 95.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="level between 0 and 1"):
        Bootstrap(**wrong)


def test_strata_of_one_problem_each_have_no_interval():
    def mean(weights):
        return {"mean": weights @ np.arange(4.0) / weights.sum(axis=1)}

    alone = significance.estimate(mean, list("abcd"), list("wxyz"), significance.Bootstrap())["mean"]
    assert (alone.value, alone.low, alone.high) == (1.5, None, None)
    assert significance.estimate(mean, list("abcd"), list("wwyz"), significance.Bootstrap())["mean"].low < 1.5


def test_p_is_twice_the_smaller_share_beyond_nought():
    assert significance.p_value(np.array([1.0] * 97 + [-1.0, 0.0])) == pytest.approx(2 * 3 / 100)
    assert significance.p_value(np.array([-1.0] * 99)) == pytest.approx(2 / 100)
    assert significance.p_value(np.zeros(99)) == 1 and significance.p_value(np.full(9, 1e-15)) == 1
    assert significance.p_value(np.array([np.nan, 1.0])) == pytest.approx(1)
    assert significance.p_value(np.array([np.nan])) is None


def test_p_is_small_where_the_interval_leaves_out_nought():
    rng = np.random.default_rng(0)
    for shift in np.linspace(1.5, 2.5, 21):
        drawn = rng.standard_normal(1999) + shift
        low, _ = significance.interval(drawn, 0.95)
        assert (significance.p_value(drawn) < 0.05) == (low > 0) or abs(significance.p_value(drawn) - 0.05) < 2e-3


def test_sources_of_few_problems_are_named():
    problems = [f"{n // 2}" for n in range(80)]
    assert significance.thin(problems, ["many"] * 60 + ["few"] * 20) == {"few": 10}
    assert significance.thin([], []) == {}


def test_holm_by_hand():
    # 0.01 * 4; then the larger of that and 0.02 * 3; 0.03 * 2 is no more; and 0.5.
    assert significance.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert significance.holm([0.4, None, 0.6]) == [0.8, None, 0.8]
    assert significance.holm([]) == []
