"""Proportions against numbers worked by hand, and exact to less than one place however long the run."""

import numpy as np
import pytest

from libra_jax.data import shares


@pytest.mark.parametrize("weights, total, expected", [
    ((1, 1), 3, [2, 1]), ((1, 1), 4, [2, 2]), ((0.6, 0.3, 0.1), 10, [6, 3, 1]), ((0.6, 0.3, 0.1), 4, [3, 1, 0]),
    ((0.6, 0.3, 0.1), 0, [0, 0, 0]), ((5.0,), 7, [7]), ((1, 1, 1), 32, [11, 11, 10]), ((1, 1, 1), 64, [22, 21, 21]),
])
def test_worked_counts(weights, total, expected):
    assert shares.counts(total, weights) == expected


@pytest.mark.parametrize("weights", [(0.6, 0.2, 0.2), (0.1, 0.2, 0.7), (1, 1, 1), (0.98, 0.01, 0.01), (3, 1), (1e-3, 1),
                                     (0.5, 0.3, 0.2)])
def test_counts_never_fall_and_are_less_than_one_from_the_share(weights):
    every = np.array([shares.counts(total, weights) for total in range(600)])
    assert (every.sum(axis=1) == np.arange(600)).all() and (np.diff(every, axis=0) >= 0).all()
    exact = np.arange(600)[:, None] * np.array(weights) / sum(weights)
    assert np.abs(every - exact).max() < 1
    assert sum(shares.counts(10**12 + 1, weights)) == 10**12 + 1


def test_a_decimal_weight_is_what_it_is_written_as():
    """0.1 + 0.2 is not 0.3 in binary; as decimals 3 of 10 places are exact."""
    assert shares.counts(10**15, (0.1, 0.2, 0.7)) == [10**14, 2 * 10**14, 7 * 10**14]


def test_epochs_of_an_order():
    whole = shares.indices(0, 0, 12, 6)
    assert sorted(whole[:6]) == sorted(whole[6:]) == list(range(6)) and list(whole[:6]) != list(whole[6:])
    np.testing.assert_array_equal(np.concatenate([shares.indices(0, 0, 5, 6), shares.indices(0, 5, 12, 6)]), whole)
    assert not np.array_equal(shares.indices(0, 0, 12, 6, stream=1), whole)
    assert not len(shares.indices(0, 3, 3, 6))
