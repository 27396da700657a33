"""Agreement of repeated judgements against hand-worked and published numbers."""

import numpy as np
import pytest

from libra_jax.bench import agreement


def counts(rows, values):
    return np.array([[row.count(value) for value in values] for row in rows], float)


def test_rate_by_hand():
    # Of three judgements "cci" one pair of three agrees; "ii" agrees; a single judgement says nothing.
    some = counts(["cci", "ii", "c"], "ciu")
    assert agreement.rate(some, np.ones((1, 3)))[0] == pytest.approx((1 / 3 + 1) / 2)
    assert agreement.rate(some, np.array([[2, 1, 5.0]]))[0] == pytest.approx((2 / 3 + 1) / 3)
    assert np.isnan(agreement.rate(some[2:], np.ones((1, 1)))[0])


def test_alpha_is_krippendorffs_published_example():
    # Krippendorff (2011), section C: four observers, twelve units, gaps; nominal alpha 0.743.
    observers = ["123321412...", "12332241 25.3".replace(" ", ""), ".333234225 1.".replace(" ", ""),
                 "123324412 51.".replace(" ", "")]
    units = ["".join(observer[n] for observer in observers).replace(".", "") for n in range(12)]
    assert agreement.alpha(counts(units, "12345"), np.ones((1, 12)))[0] == pytest.approx(0.743, abs=5e-4)


def test_alpha_of_chance_is_nought_and_of_certainty_one():
    rng = np.random.default_rng(0)
    votes = rng.random((4000, 5)) < 0.7
    yes = votes.sum(axis=1)
    chance = np.stack([yes, 5 - yes], axis=1).astype(float)
    assert agreement.alpha(chance, np.ones((1, 4000)))[0] == pytest.approx(0, abs=0.02)
    assert agreement.rate(chance, np.ones((1, 4000)))[0] == pytest.approx(0.7**2 + 0.3**2, abs=0.02)
    assert agreement.alpha(counts(["cc", "ii"], "ci"), np.ones((1, 2)))[0] == 1
    assert np.isnan(agreement.alpha(counts(["cc", "cc"], "ci"), np.ones((1, 2)))[0])


def test_a_weight_is_so_many_copies():
    rows = ["ccc", "cci", "iiu", "ci"]
    weights = np.array([[2.0, 0, 1, 3]])
    copies = counts(["ccc", "ccc", "iiu", "ci", "ci", "ci"], "ciu")
    for measure in (agreement.rate, agreement.alpha):
        assert measure(counts(rows, "ciu"), weights)[0] == pytest.approx(measure(copies, np.ones((1, 6)))[0])
