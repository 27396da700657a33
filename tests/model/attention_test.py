"""Splash attention (interpreted on the CPU) and attention in blocks are the plain attention, on one device and many."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.model import attention
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import mesh as meshes

SMALL = ModelConfig(vocab_size=32, num_layers=1, model_size=32, num_heads=4, num_kv_heads=2, head_size=16,
                    feedforward_size=32)


def _inputs(length, heads=(4, 2)):
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v = (jax.random.normal(key, (2, length, n, 16)) for key, n in zip(keys[:3], (*heads, heads[1]), strict=True))
    weight = jax.random.normal(keys[3], q.shape)
    ends = [length // 3, length // 2, length - 5]
    segments = np.stack([np.searchsorted(ends, np.arange(length), side="right") + 1,
                         np.searchsorted([length // 4], np.arange(length), side="right") + 1])
    segments[0, ends[-1]:] = 0  # padding
    return q, k, v, jnp.asarray(segments, jnp.int32), weight * (segments > 0)[..., None, None]


def _both(config, length, window=None, heads=(4, 2)):
    """(output, gradients) of attend where the weight is not padding's."""
    q, k, v, segments, weight = _inputs(length, heads)

    def loss(q, k, v):
        view = attention.View(segments, None if window is None else jnp.int32(window))
        out = attention.attend(config, q, k, v, view)
        return (out * weight).sum(), out * (segments > 0)[..., None, None]

    (_, out), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    return [np.asarray(each) for each in (out, *gradients)]


def _assert_close(ours, theirs, tolerance=2e-5):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


@pytest.mark.parametrize("change, window", [
    ({}, None), ({"attention_softcap": 2.0, "query_scale": 4.0}, None), ({"sliding_window": 40}, 40),
    ({"sliding_window": 40}, 0),
])
def test_splash_is_the_plain_attention_and_so_are_its_gradients(change, window):
    config = dataclasses.replace(SMALL, **change)
    splash = dataclasses.replace(config, attention="splash_interpret")
    _assert_close(_both(splash, 256, window), _both(config, 256, window))


@pytest.mark.parametrize("sizes", [{"fsdp": 2, "sequence": 2, "tensor": 2}, {"data": 2, "fsdp": 1, "sequence": 4},
                                   {"fsdp": 8}])
def test_splash_over_a_mesh_is_the_plain_attention(sizes):
    splash = dataclasses.replace(SMALL, attention="splash_interpret")
    with jax.set_mesh(meshes.make(meshes.MeshConfig(**sizes))):
        sharded = _both(splash, 512)
    _assert_close(sharded, _both(SMALL, 512))


def test_one_key_value_head_serves_the_query_heads_of_every_device():
    one = dataclasses.replace(SMALL, num_kv_heads=1, attention="splash_interpret")
    with jax.set_mesh(meshes.make(meshes.MeshConfig(fsdp=2, tensor=4))):
        sharded = _both(one, 128, heads=(4, 1))
    _assert_close(sharded, _both(dataclasses.replace(one, attention="xla"), 128, heads=(4, 1)))


def test_splash_names_a_mesh_that_does_not_fit():
    splash = dataclasses.replace(SMALL, attention="splash_interpret")
    with jax.set_mesh(meshes.make(meshes.MeshConfig(fsdp=2, tensor=4))):
        with pytest.raises(ValueError, match="tensor=4 does not divide the 2 key-value heads"):
            _both(splash, 128)
    with jax.set_mesh(meshes.make(meshes.MeshConfig(fsdp=1, sequence=8))):
        with pytest.raises(ValueError, match="512 tokens over mesh sequence=8"):
            _both(splash, 512)


def test_rows_that_no_kernel_takes_go_the_plain_way():
    splash = dataclasses.replace(SMALL, attention="splash_interpret")
    _assert_close(_both(splash, 100), _both(SMALL, 100), 0)


@pytest.mark.parametrize("window", [None, 40])
def test_attention_in_blocks_is_the_plain_attention(window, monkeypatch):
    whole = _both(SMALL, 256, window)
    monkeypatch.setattr(attention, "BLOCK", 32)
    _assert_close(_both(SMALL, 256, window), whole)
