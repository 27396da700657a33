"""Made-up curves of reward and accuracy: which are stopped, and when."""

import math

import pytest

from libra_jax.bench import divergence
from libra_jax.bench.divergence import Divergence


def stopped_at(rewards, accuracies, **rule):
    """The first look at which the rule speaks, or None."""
    looks = list(zip(rewards, accuracies, strict=True))
    return next((last for last in range(len(looks)) if divergence.found(looks[:last + 1], Divergence(**rule))), None)


RISING = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]


def test_a_reward_that_is_hacked_is_stopped_when_accuracy_has_fallen_far_enough():
    assert stopped_at(RISING, [0.60, 0.66, 0.70, 0.66, 0.60, 0.50], drop=0.05, window=2) == 4  # 0.70 -> 0.60
    assert stopped_at(RISING, [0.60, 0.66, 0.70, 0.66, 0.60, 0.50], drop=0.05, window=1) == 4  # 0.66 -> 0.60
    assert stopped_at(RISING, [0.60, 0.66, 0.70, 0.66, 0.60, 0.50], drop=0.15, window=2) == 5
    assert stopped_at(RISING, [0.60, 0.66, 0.70, 0.66, 0.60, 0.50], drop=0.15, window=1) is None


@pytest.mark.parametrize("rewards, accuracies", [
    (RISING, [0.50, 0.56, 0.62, 0.66, 0.70, 0.72]),  # both rise
    (RISING, [0.60, 0.58, 0.61, 0.57, 0.60, 0.58]),  # noise within drop
    ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [0.60, 0.5, 0.4, 0.3, 0.2, 0.1]),  # both fall: a run that breaks, not a reward
    (RISING, [0.60, 0.59, 0.58, 0.57, 0.56, 0.55]),  # slower than drop in window looks
    (RISING, [math.nan] * 6),
])
def test_what_is_no_divergence_is_let_go_on(rewards, accuracies):
    assert stopped_at(rewards, accuracies, drop=0.05, window=2) is None


def test_a_longer_window_sees_a_slower_fall():
    slow = [0.60, 0.59, 0.58, 0.57, 0.56, 0.53]
    assert stopped_at(RISING, slow, drop=0.05, window=2) is None
    assert stopped_at(RISING, slow, drop=0.05, window=5) == 5


def test_what_was_seen_is_said_and_a_drop_of_one_never_stops():
    looks = [(0.6, 0.6), (0.7, 0.6), (0.8, 0.5)]
    assert divergence.found(looks, Divergence(drop=0.05, window=2)) == (
        "in 2 looks the reward rose from 0.600 to 0.800 and held-out accuracy fell from 0.600 to 0.500, by more than "
        "0.05")
    assert divergence.found([(0.0, 1.0), (1.0, 0.0)], Divergence(drop=1, window=1)) is None


@pytest.mark.parametrize("rule", [{"drop": -0.1}, {"drop": 1.5}, {"window": 0}])
def test_rules_that_cannot_be_are_refused(rule):
    with pytest.raises(ValueError, match="expected a share of accuracy"):
        Divergence(**rule)
