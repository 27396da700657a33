"""The decoder agrees with itself: cached and packed with plain, rematerialised and sharded with whole."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig, RopeScaling
from libra_jax.parallel import mesh as meshes

SMALL = dict(vocab_size=64, model_size=32, num_heads=4, num_kv_heads=2, head_size=8, feedforward_size=48)
QWEN3 = ModelConfig(num_layers=2, **SMALL)
GEMMA = ModelConfig(family="gemma3_text", num_layers=3, sliding_layers=(True, False, True), sliding_window=4,
                    rope_theta=1e6, rope_local_theta=1e4, rope_scaling=RopeScaling(kind="linear", factor=8.0),
                    attention_softcap=2.0, final_softcap=3.0, norm_unit_offset=True, post_norms=True,
                    scale_embeddings=True, activation="gelu_tanh", query_scale=16.0, **SMALL)
LLAMA = ModelConfig(family="llama", num_layers=2, qk_norm=False, tie_embeddings=False, attention_bias=True,
                    output_bias=True, **{**SMALL, "num_kv_heads": 1})
CONFIGS = {"qwen3": QWEN3, "gemma3": GEMMA, "llama": LLAMA}
TOKENS = jnp.asarray(np.random.default_rng(0).integers(1, 64, (4, 12)))
POSITIONS = jnp.broadcast_to(jnp.arange(12), (4, 12))

apply = jax.jit(transformer.apply, static_argnums=0)


@functools.cache
def parameters(config):
    """Random parameters; constants are moved too, so that no bias or norm is idle."""
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.1 * random.standard_normal(leaf.shape), jnp.float32),
                        jax.tree.map(np.asarray, transformer.init(config, key=jax.random.key(1))))


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_rows_equal_rows_of_their_own(name):
    config = CONFIGS[name]
    params = parameters(config)
    alone = np.asarray(apply(config, params, TOKENS, positions=POSITIONS))
    packed = jnp.concatenate([TOKENS[:1, :5], TOKENS[1:2], jnp.zeros((1, 2), TOKENS.dtype)], axis=1)
    positions = jnp.concatenate([POSITIONS[:1, :5], POSITIONS[:1], jnp.zeros((1, 2), int)], axis=1)
    segments = jnp.asarray([[1] * 5 + [2] * 12 + [0] * 2])
    found = np.asarray(apply(config, params, packed, positions=positions, segment_ids=segments))
    np.testing.assert_allclose(found[0, :5], alone[0, :5], atol=2e-5)
    np.testing.assert_allclose(found[0, 5:17], alone[1], atol=2e-5)
    assert np.isfinite(found).all()


def test_token_logprobs_are_the_log_softmax_of_the_token_before():
    params = parameters(QWEN3)
    segments = jnp.asarray([[1] * 5 + [2] * 5 + [0] * 2] * 4)
    logits = apply(QWEN3, params, TOKENS, positions=POSITIONS, segment_ids=segments)
    logits, expected = np.asarray(logits), np.zeros((4, 12))
    for row in range(4):
        for t in (1, 2, 3, 4, 6, 7, 8, 9):
            scaled = logits[row, t - 1] / 0.7
            expected[row, t] = scaled[TOKENS[row, t]] - np.log(np.sum(np.exp(scaled)))
    for chunk in (0, 4, 5, 100):
        run = jax.jit(functools.partial(transformer.token_logprobs, QWEN3, temperature=0.7, chunk=chunk))
        found = run(params, TOKENS, positions=POSITIONS, segment_ids=segments)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
        for wanted in (TOKENS % 3 == 0, jnp.zeros(TOKENS.shape, bool)):
            found = run(params, TOKENS, positions=POSITIONS, segment_ids=segments, wanted=wanted)
            np.testing.assert_allclose(found, np.where(wanted, expected, 0), atol=1e-5)


def gradient(config, params, tokens, positions, segments, chunk=0):
    def loss(params):
        logprobs = transformer.token_logprobs(config, params, tokens, positions=positions, segment_ids=segments,
                                              chunk=chunk)
        return -jnp.sum(logprobs) / 20
    return jax.value_and_grad(loss)(params)


gradients = jax.jit(gradient, static_argnums=(0, 5))
SEGMENTS = jnp.asarray([[1] * 7 + [2] * 3 + [0] * 2] * 4)


@pytest.mark.parametrize("change", [{"remat": "dots"}, {"remat": "full", "chunk": 4}, {"remat": "offload"}])
def test_rematerialised_gradients_are_the_same(change):
    params = parameters(QWEN3)
    config = dataclasses.replace(QWEN3, remat=change.get("remat", "none"))
    expected = gradients(QWEN3, params, TOKENS, POSITIONS, SEGMENTS, 0)
    found = gradients(config, params, TOKENS, POSITIONS, SEGMENTS, change.get("chunk", 0))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(("name", "sizes", "chunk"), [
    ("qwen3", {"data": 2, "fsdp": 2, "tensor": 2}, 4), ("gemma3", {"fsdp": 4, "tensor": 2}, 0),
    ("llama", {"fsdp": 2, "tensor": 4}, 2), ("qwen3", {"fsdp": 1, "sequence": 4, "tensor": 2}, 1),
    ("odd", {"fsdp": 1, "tensor": 8}, 4)])
def test_gradients_on_eight_devices_equal_those_on_one(name, sizes, chunk):
    config = CONFIGS["qwen3"] if name == "odd" else CONFIGS[name]
    if name == "odd":  # a vocabulary that the mesh does not divide
        config = dataclasses.replace(config, vocab_size=config.vocab_size + 1)
    params = parameters(config)
    expected = gradients(config, params, TOKENS, POSITIONS, SEGMENTS, 0)
    mesh = meshes.make(meshes.MeshConfig(**sizes))
    shardings = transformer.shardings(config, mesh)
    rows = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
    with jax.set_mesh(mesh):
        batch = jax.device_put((TOKENS, POSITIONS, SEGMENTS), rows)
        run = jax.jit(gradient, static_argnums=(0, 5), out_shardings=(jax.NamedSharding(mesh, jax.P()), shardings))
        found = run(config, jax.device_put(params, shardings), *batch, chunk)
    assert len(found[1]["blocks"]["feedforward"]["up"].sharding.device_set) == 8
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_bfloat16_computes_near_float32_from_float32_masters():
    params = parameters(QWEN3)
    exact = apply(QWEN3, params, TOKENS, positions=POSITIONS)
    rough = apply(dataclasses.replace(QWEN3, dtype="bfloat16"), params, TOKENS, positions=POSITIONS)
    assert rough.dtype == jnp.float32
    difference = float(jnp.abs(rough - exact).max())
    assert 1e-4 < difference < 0.1
    grads = gradients(dataclasses.replace(QWEN3, dtype="bfloat16"), params, TOKENS, POSITIONS, SEGMENTS, 0)[1]
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("change", [
    {"rope_scaling": RopeScaling()}, {"rope_local_theta": 0.0}, {"attention_softcap": 0.0}, {"final_softcap": 0.0},
    {"query_scale": 0.0}, {"sliding_window": 5}, {"norm_unit_offset": False}, {"scale_embeddings": False},
    {"activation": "silu"}, {"norm_eps": 1e-2}], ids=lambda change: next(iter(change)))
def test_every_part_of_a_family_shows_in_its_logits(change):
    """Otherwise parity with transformers would prove nothing about that part."""
    params = parameters(GEMMA)
    logits = apply(GEMMA, params, TOKENS, positions=POSITIONS)
    other = apply(dataclasses.replace(GEMMA, **change), params, TOKENS, positions=POSITIONS)
    assert float(jnp.abs(logits - other).max()) > 1e-3


def test_a_tree_of_parameters_that_does_not_fit_is_named():
    params = transformer.init(QWEN3, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"'embedding' has shape \(64, 32\), expected \(65, 32\)"):
        transformer.bind(dataclasses.replace(QWEN3, vocab_size=65), params)
    with pytest.raises(ValueError, match=r"unknown 'blocks/attention/[qk]_norm/scale'"):
        transformer.bind(dataclasses.replace(QWEN3, qk_norm=False), params)
    assert transformer.num_parameters(QWEN3) == sum(leaf.size for leaf in jax.tree.leaves(params))
