"""Calibration against numbers worked by hand."""

import numpy as np
import pytest

from libra_jax.bench import calibration
from libra_jax.bench.significance import Bootstrap

ONE = np.ones((1, 4))


def test_brier_by_hand_and_weights_are_copies():
    scores, labels = np.array([1.0, 0.5, 0.5, 0.2]), np.array([True, True, False, False])
    assert calibration.brier(scores, labels, ONE)[0] == pytest.approx((0 + 0.25 + 0.25 + 0.04) / 4)
    assert calibration.brier(scores, labels, np.array([[0, 0, 1, 3.0]]))[0] == pytest.approx((0.25 + 3 * 0.04) / 4)
    assert calibration.brier(np.full(4, 0.5), labels, ONE)[0] == 0.25
    assert np.isnan(calibration.brier(None, labels, ONE)[0])


def test_ece_by_hand():
    # Two bins of two: mean score 0.2 with none correct, mean score 0.7 with all correct.
    scores, labels = np.array([0.1, 0.3, 0.6, 0.8]), np.array([False, False, True, True])
    assert calibration.ece(scores, labels, ONE, num_bins=2)[0] == pytest.approx((0.2 + 0.3) / 2)
    assert calibration.ece(scores, labels, np.array([[1, 1, 3, 3.0]]), num_bins=2)[0] == pytest.approx(
        (2 * 0.2 + 6 * 0.3) / 8)
    assert np.isnan(calibration.ece(None, labels, ONE)[0])


def test_bins_have_equal_mass_and_never_divide_equal_scores():
    assert np.bincount(calibration.bins(np.random.default_rng(0).random(1000))).tolist() == [100] * 10
    votes = np.repeat([0.0, 0.5, 1.0], [70, 10, 20])
    places = calibration.bins(votes)
    assert places.tolist() == [0] * 70 + [1] * 10 + [2] * 20
    assert calibration.bins(np.full(5, 0.3)).tolist() == [0] * 5
    order = np.random.default_rng(1).permutation(100)
    assert calibration.bins(votes[order]).tolist() == places[order].tolist()


def test_a_calibrated_judge_has_little_error_and_a_boaster_much():
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    labels = rng.random(20_000) < scores
    weights = np.ones((1, 20_000))
    assert calibration.ece(scores, labels, weights)[0] < 0.02
    assert calibration.brier(scores, labels, weights)[0] == pytest.approx(1 / 6, abs=0.005)  # E[s(1 - s)]
    assert calibration.ece(np.where(scores > 0.5, 1.0, 0.0), labels, weights)[0] == pytest.approx(0.25, abs=0.01)


def test_the_points_of_a_reliability_plot():
    scores, labels = np.repeat([0.2, 0.9], 40), np.array([n % 4 == 0 for n in range(40)] + [True] * 40)
    found = calibration.reliability(scores, labels, [f"{n}" for n in range(80)], ["s"] * 80, Bootstrap())
    assert [(each.num_examples, each.score, each.correct.value) for each in found] == [
        (40, pytest.approx(0.2), 0.25), (40, pytest.approx(0.9), 1.0)]
    assert found[0].correct.low < 0.25 < found[0].correct.high
    assert calibration.reliability(None, labels, [], [], Bootstrap()) == ()
