"""The three losses against numbers worked by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.objectives import dpo, grpo, sft


def test_sft_counts_masked_tokens_alone_and_gives_the_others_no_gradient():
    logprobs = jnp.array([[-1.0, -2.0, -jnp.inf]])
    mask = jnp.array([[True, True, False]])
    value, gradient = jax.value_and_grad(lambda x: sft.loss(x, mask, 2.0)[0])(logprobs)
    assert value == 1.5
    np.testing.assert_array_equal(gradient, [[-0.5, -0.5, 0.0]])


def test_dpo_worked_by_hand():
    # margin = (-1 - -3) - (-2 - -2.5) = 1.5; beta 0.1: -log sigmoid(0.15).
    arrays = [jnp.array([x]) for x in (-1.0, -3.0, -2.0, -2.5)]
    value, metrics = dpo.loss(*arrays, beta=0.1)
    assert value == pytest.approx(math.log1p(math.exp(-0.15)), rel=1e-6)
    assert metrics["margin"] == pytest.approx(1.5)
    assert dpo.loss(*[jnp.zeros(3)] * 4, beta=0.7)[0] == pytest.approx(math.log(2))


def test_dpo_gradient_pulls_chosen_up_and_rejected_down_alike():
    up, down = jax.grad(lambda c, r: dpo.loss(c, r, jnp.zeros(1), jnp.zeros(1), beta=0.5)[0], (0, 1))(
        jnp.zeros(1), jnp.zeros(1))
    np.testing.assert_allclose(up, [-0.25])
    np.testing.assert_allclose(down, [0.25])


def test_advantages():
    rewards = jnp.array([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(grpo.advantages(rewards), [[1, -1, -1, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(grpo.advantages(rewards, normalise="mean"), [[0.5, -0.5, -0.5, 0.5], [0, 0, 0, 0]])
    with pytest.raises(ValueError, match="'std' or 'mean'"):
        grpo.advantages(rewards, normalise="rank")


def _one(ratio, advantage, **kwargs):
    one = jnp.ones((1, 1))
    old = kwargs.pop("old", 0.0) * one
    return grpo.loss(jnp.log(ratio) * one + old, old, kwargs.pop("sampler", 0.0) * one, advantage * one,
                     jnp.ones((1, 1), bool), denominator=1.0, **kwargs)


@pytest.mark.parametrize("ratio, advantage, expected", [
    (1.5, 2.0, -2.56),  # clipped above at 1.28
    (1.5, -2.0, 3.0),  # a worse token may be pushed down without a bound
    (0.5, 2.0, -1.0),
    (0.5, -2.0, 1.6),  # clipped below at 0.8
])
def test_grpo_clips_each_side_by_hand(ratio, advantage, expected):
    assert _one(ratio, advantage)[0] == pytest.approx(expected, rel=1e-6)


def test_grpo_importance_weight_is_truncated():
    # The trainer finds the token e times as likely as the sampler did: w = min(e, cap).
    assert _one(1.0, 1.0, old=-1.0, sampler=-2.0, importance_cap=10.0)[0] == pytest.approx(-math.e, rel=1e-6)
    assert _one(1.0, 1.0, old=-1.0, sampler=-2.0, importance_cap=2.0)[0] == pytest.approx(-2.0, rel=1e-6)


def test_grpo_k3_by_hand():
    value, metrics = _one(1.0, 0.0, kl_weight=0.5, reference_logprobs=jnp.full((1, 1), math.log(2.0)))
    assert metrics["kl"] == pytest.approx(2 - math.log(2) - 1, rel=1e-6)
    assert float(value) == pytest.approx(0.5 * float(metrics["kl"]), rel=1e-6)
    with pytest.raises(ValueError, match="reference_logprobs"):
        _one(1.0, 0.0, kl_weight=0.5)


def test_grpo_padding_has_no_gradient():
    mask = jnp.array([[True, False]])
    gradient = jax.grad(lambda x: grpo.loss(x, jnp.zeros((1, 2)), jnp.full((1, 2), -jnp.inf).at[0, 0].set(0.0),
                                            jnp.ones((1, 2)), mask, denominator=1.0)[0])(jnp.zeros((1, 2)))
    np.testing.assert_array_equal(gradient, [[-1.0, 0.0]])
