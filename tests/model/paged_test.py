"""Attention to pages of a cache is the full pass, wherever the pages lie, for every family, dtype and kernel."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu.ragged_paged_attention import kernel

from libra_jax.model import cache as caches
from libra_jax.model import paged, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import mesh as meshes

PAGE = caches.PAGE
QWEN = ModelConfig(vocab_size=64, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2, head_size=8,
                   feedforward_size=48)
MANY_HEADS = dataclasses.replace(QWEN, num_heads=8, num_kv_heads=8)
GEMMA = ModelConfig(family="gemma2", vocab_size=64, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2,
                    head_size=16, feedforward_size=48, attention_softcap=5.0, final_softcap=8.0, query_scale=16.0,
                    sliding_window=70, sliding_layers=(True, False), norm_unit_offset=True, post_norms=True,
                    scale_embeddings=True, activation="gelu_tanh", qk_norm=False)
KERNEL = dataclasses.replace(QWEN, num_layers=1, head_size=128, attention="splash")  # a shape that the kernel takes
TOKENS = np.random.default_rng(0).integers(1, 64, (4, 150)).astype(np.int32)
PROMPTS = np.array([130, 70, 1, 64], np.int32)
NUM_PAGES, TABLE = 32, 5


@functools.cache
def parameters(config):
    random = np.random.default_rng(1)
    config = dataclasses.replace(config, attention="xla")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.1 * random.standard_normal(leaf.shape), jnp.float32),
                        jax.tree.map(np.asarray, transformer.init(config, key=jax.random.key(1))))


extend = jax.jit(transformer.extend, static_argnums=0)


def tables(seed=0, num_pages=NUM_PAGES):
    """Pages from anywhere in the pool for each of the four rows."""
    return np.random.default_rng(seed).permutation(num_pages)[: 4 * TABLE].reshape(4, TABLE).astype(np.int32)


def run(config, params, cache, table, steps=20, chunk=64):
    """Prefills in chunks, then decodes one token a row at a time: the logits [4, steps, V] and the cache."""
    for start in range(0, int(PROMPTS.max()), chunk):
        where = caches.Where(table, np.minimum(start, PROMPTS), np.clip(PROMPTS - start, 0, chunk).astype(np.int32))
        part = np.stack([np.resize(row[first : first + chunk], chunk) for row, first in
                         zip(TOKENS, where.first, strict=True)])
        _, cache = extend(config, params, part, cache, where)
    found = []
    for step in range(steps):
        at = PROMPTS + np.int32(step)
        where = caches.Where(table, at, np.ones(4, np.int32))
        logits, cache = extend(config, params, TOKENS[np.arange(4), at][:, None], cache, where)
        found.append(np.asarray(logits[:, 0]))
    return np.stack(found, axis=1), cache


def full(config, params, steps=20):
    positions = np.broadcast_to(np.arange(150), TOKENS.shape)
    logits = jax.jit(transformer.apply, static_argnums=0)(config, params, TOKENS, positions=positions)
    return np.stack([np.asarray(logits)[row, start : start + steps] for row, start in enumerate(PROMPTS)])


@pytest.mark.parametrize("config", [QWEN, MANY_HEADS, GEMMA], ids=["qwen", "many_heads", "gemma"])
def test_pages_give_what_the_full_pass_gives(config):
    params = parameters(config)
    found, _ = run(config, params, caches.init(config, NUM_PAGES), tables())
    np.testing.assert_allclose(found, full(config, params), atol=3e-5)


def test_bits_do_not_depend_on_where_pages_lie_nor_on_what_lies_in_others():
    params = parameters(QWEN)
    found, _ = run(QWEN, params, caches.init(QWEN, NUM_PAGES), tables())
    junk = caches.init(QWEN, 40)
    junk = junk._replace(pages=junk.pages + 3.0)
    again, _ = run(QWEN, params, junk, tables(seed=5, num_pages=40), chunk=64)
    assert found.tobytes() == again.tobytes()


def test_rows_share_pages_and_padding_writes_nothing():
    params = parameters(QWEN)
    table = np.array([[3, 5, 7], [3, 6, 8]], np.int32)  # the first page is both rows'
    cache = caches.init(QWEN, NUM_PAGES)
    where = caches.Where(table, np.zeros(2, np.int32), np.array([PAGE, 0], np.int32))
    _, cache = extend(QWEN, params, np.tile(TOKENS[:1, :PAGE], (2, 1)), cache, where)
    assert np.flatnonzero(np.any(np.asarray(cache.pages) != 0, axis=(0, 2, 3, 4, 5))).tolist() == [3]
    where = caches.Where(table, np.full(2, PAGE, np.int32), np.ones(2, np.int32))
    logits, cache = extend(QWEN, params, TOKENS[[0, 0], PAGE][:, None], cache, where)
    np.testing.assert_array_equal(logits[0], logits[1])
    where = caches.Where(table, np.full(2, 3 * PAGE, np.int32), np.ones(2, np.int32))  # beyond the tables' end
    _, after = extend(QWEN, params, TOKENS[[0, 0], 96][:, None], cache, where)
    np.testing.assert_array_equal(after.pages, cache.pages)


@pytest.mark.parametrize("sizes", [{"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 2, "sequence": 2}, {"tensor": 8}])
def test_pages_over_a_mesh(sizes):
    mesh = meshes.make(meshes.MeshConfig(**{"fsdp": 1} | sizes), jax.devices())
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    params = parameters(QWEN)
    placed = jax.device_put(params, transformer.shardings(QWEN, mesh))
    number = 4 * TABLE
    cache = jax.device_put(caches.init(QWEN, number), caches.shardings(QWEN, mesh, number))
    share = number // ways  # a table speaks of pages of its own device
    table = (np.arange(number).reshape(4, TABLE) % share).astype(np.int32) if ways == 4 else tables(num_pages=number)
    with jax.set_mesh(mesh):
        if ways == 1:
            found, _ = run(QWEN, placed, cache, table, steps=4)
            np.testing.assert_allclose(found, full(QWEN, params, 4), atol=3e-5)
        else:
            found, cache = run(QWEN, placed, cache, table, steps=4)
            np.testing.assert_allclose(found, full(QWEN, params, 4), atol=3e-5)
            assert "data" in str(cache.pages.sharding.spec) or "fsdp" in str(cache.pages.sharding.spec)


@pytest.mark.parametrize("dtype, change", [
    ("", {}), ("int8", {}), ("", {"sliding_window": 70, "sliding_layers": (True,)}), ("", {"attention_softcap": 2.0})])
def test_the_kernel_by_its_own_reference_is_the_plain_attention(dtype, change, monkeypatch):
    config = dataclasses.replace(KERNEL, **change)
    plain = dataclasses.replace(config, attention="xla")
    params = parameters(plain)
    scale = caches.scales(run(plain, params, caches.init(plain, NUM_PAGES), tables(), 1)[1]) if dtype else None
    exact = run(plain, params, caches.init(plain, NUM_PAGES, dtype, scale), tables(), steps=2)[0]

    def reference(*arguments, num_kv_pages_per_block, num_queries_per_block, **options):
        assert num_kv_pages_per_block == TABLE and num_queries_per_block in (32, 4)
        return kernel.ref_ragged_paged_attention(*arguments, **options)

    monkeypatch.setattr(paged, "ragged_paged_attention", reference)
    monkeypatch.setitem(globals(), "extend", transformer.extend)
    with jax.disable_jit():  # the reference counts rows in Python
        found = run(config, params, caches.init(config, NUM_PAGES, dtype, scale), tables(), steps=2, chunk=130)[0]
    np.testing.assert_allclose(found, exact, atol=5e-5)


def test_which_shapes_suit_the_kernel():
    assert paged.suits_kernel(2, 128, "bfloat16") and paged.suits_kernel(8, 128, "bfloat16")
    assert paged.suits_kernel(1, 128, "bfloat16") and not paged.suits_kernel(1, 128, "int8")
    assert not paged.suits_kernel(2, 64, "bfloat16")  # lanes of 128
    assert not paged.suits_kernel(3, 128, "bfloat16")


def test_eight_bit_pages_are_near_and_clip_what_is_larger():
    params = parameters(QWEN)
    exact, cache = run(QWEN, params, caches.init(QWEN, NUM_PAGES), tables())
    scale = caches.scales(cache)
    assert scale.shape == (2, 2, 2, 8)
    rough, small = run(QWEN, params, caches.init(QWEN, NUM_PAGES, "int8", scale), tables())
    assert small.pages.dtype == jnp.int8
    difference = np.abs(jax.nn.log_softmax(rough) - jax.nn.log_softmax(exact))
    assert 1e-4 < difference.mean() < 0.05
    clipped, _ = run(QWEN, params, caches.init(QWEN, NUM_PAGES, "int8", scale / 100), tables(), steps=1)
    assert np.isfinite(clipped).all()
