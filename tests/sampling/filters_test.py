import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.sampling import filters

LOGITS = jnp.log(jnp.array([[0.1, 0.5, 0.15, 0.25]]))


def kept(logits):
    return np.flatnonzero(np.isfinite(np.asarray(logits)[0])).tolist()


def test_temperature_divides_and_everything_stays_by_default():
    out = filters.apply(LOGITS, 0.5)
    np.testing.assert_allclose(out, LOGITS / 0.5, rtol=1e-6)


@pytest.mark.parametrize("top_k, expected", [(1, [1]), (2, [1, 3]), (3, [1, 2, 3]), (9, [0, 1, 2, 3])])
def test_top_k_keeps_the_most_likely(top_k, expected):
    assert kept(filters.apply(LOGITS, 1.0, top_k=top_k)) == expected


@pytest.mark.parametrize("top_p, expected", [(0.01, [1]), (0.49, [1]), (0.7, [1, 3]), (0.8, [1, 2, 3]),
                                             (0.95, [0, 1, 2, 3])])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, expected):
    assert kept(filters.apply(LOGITS, 1.0, top_p=top_p)) == expected


def test_top_p_is_taken_after_temperature_and_top_k():
    # among the best two, 0.5 and 0.25 become 2/3 and 1/3: the first alone reaches 0.6 only after top-k
    assert kept(filters.apply(LOGITS, 1.0, top_k=2, top_p=0.6)) == [1]
    assert kept(filters.apply(LOGITS, 1.0, top_p=0.6)) == [1, 3]


def test_ties_stay_together():
    assert kept(filters.apply(jnp.zeros((1, 3)), 1.0, top_k=1)) == [0, 1, 2]


def test_jit_and_dtype():
    out = jax.jit(lambda x: filters.apply(x, 1.0, 2, 0.9))(LOGITS.astype(jnp.bfloat16))
    assert out.dtype == jnp.float32


@pytest.mark.parametrize("top_k, top_p", [(-1, 1.0), (0, 0.0), (0, 1.5)])
def test_impossible_settings_are_refused(top_k, top_p):
    with pytest.raises(ValueError, match="expected"):
        filters.apply(LOGITS, 1.0, top_k, top_p)
