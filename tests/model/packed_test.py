"""Attention by blocks against the plain formula; one device, as where it is used."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.model import attention, packed
from libra_jax.model.config import ModelConfig

CONFIG = ModelConfig(vocab_size=8, num_layers=1, model_size=8, num_heads=4, num_kv_heads=2, head_size=16,
                     feedforward_size=8)
ENDS = [(100, 230, 250), (256,), (3, 250), (0,), (64, 128, 192, 256)]  # of each row's segments; padding behind


def segments(length=256):
    rows = np.zeros((len(ENDS), length), np.int32)
    for row, ends in zip(rows, ENDS, strict=True):
        for number, (start, end) in enumerate(zip((0, *ends), ends, strict=False), 1):
            row[start:end] = number
    return rows


def both(config, rows, window, monkeypatch):
    """(values, gradients) by blocks and by the plain formula; the gradient is of places that are not padding."""
    draw = iter(jax.random.split(jax.random.key(0), 4))
    shapes = [(*rows.shape, heads, 16) for heads in (4, 2, 2, 4)]
    q, k, v, weights = (jax.random.normal(next(draw), shape) for shape in shapes)
    weights = weights * (rows > 0)[..., None, None]
    view = attention.View(jnp.asarray(rows), None if window is None else jnp.int32(window))

    def loss(q, k, v):
        out = attention.plain(config, q, k, v, view)
        return (out * weights).sum(), out * (rows > 0)[..., None, None]

    found = []
    for blocks in (packed.block, lambda length: 0):
        monkeypatch.setattr(packed, "block", blocks)
        (_, out), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(q, k, v)
        found.append((out, *gradients))
    return found


@pytest.mark.parametrize("change, window", [({}, None), ({"attention_softcap": 3.0}, None), ({}, 50), ({}, 0),
                                            ({"attention_softcap": 3.0}, 130)])
def test_it_equals_the_plain_formula_and_its_gradient(change, window, monkeypatch):
    for ours, theirs in zip(*both(dataclasses.replace(CONFIG, **change), segments(), window, monkeypatch), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
        assert np.abs(np.asarray(theirs)).max() > 0.1


def test_segments_in_any_order_and_rows_of_other_lengths(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 3, (2, 192)).astype(np.int32)
    for ours, theirs in zip(*both(CONFIG, rows, None, monkeypatch), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_only_blocks_that_segments_reach_are_met():
    first = np.asarray(packed._first(jnp.asarray(segments()), None, 64))
    np.testing.assert_array_equal(first, [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 2, 3], [0, 1, 2, 3]])
    slid = np.asarray(packed._first(jnp.asarray(segments()), jnp.int32(2), 64))
    np.testing.assert_array_equal(slid[1], [0, 0, 1, 2])
    np.testing.assert_array_equal(np.asarray(packed._first(jnp.asarray(segments()), jnp.int32(1), 64))[1], [0, 1, 2, 3])


def test_the_length_of_a_block():
    assert [packed.block(length) for length in (16, 32, 64, 96, 192, 512, 500)] == [0, 0, 32, 32, 64, 128, 0]


def test_several_devices_take_the_plain_formula(monkeypatch):
    monkeypatch.setattr(attention.packed, "attend", lambda *_: pytest.fail("blocks on a mesh"))
    rows = jnp.asarray(segments())
    q = jnp.ones((*rows.shape, 4, 16))
    with jax.set_mesh(jax.make_mesh((8, 1, 1, 1), ("data", "fsdp", "sequence", "tensor"))):
        jax.eval_shape(lambda: attention.plain(CONFIG, q, q[..., :2, :], q[..., :2, :], attention.View(rows, None)))
