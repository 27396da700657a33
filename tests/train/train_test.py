"""A training run: every step learns, parts add up to the whole, devices agree, and a resumed run is the same run."""

import jax
import numpy as np
import pytest

from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.objectives import sft
from libra_jax.parallel import mesh as meshes
from libra_jax.train import loop, metrics, optimizer, state, step

MODEL = ModelConfig(vocab_size=64, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2, head_size=8,
                    feedforward_size=64)


def _batch(number, params=None):
    tokens = np.random.default_rng(number).integers(1, 64, (8, 16)).astype(np.int32)
    mask = np.ones((8, 16), bool)
    mask[:, 0] = False
    mask[number % 8, 5:] = False  # rows of unequal weight
    return {"tokens": tokens, "positions": np.tile(np.arange(16, dtype=np.int32), (8, 1)),
            "segment_ids": np.ones((8, 16), np.int32), "loss_mask": mask, "denominator": np.float32(mask.sum())}


def _loss(params, batch):
    logprobs = transformer.token_logprobs(MODEL, params, batch["tokens"], positions=batch["positions"],
                                          segment_ids=batch["segment_ids"])
    return sft.loss(logprobs, batch["loss_mask"], batch["denominator"])


def _run(workdir, num_steps, *, mesh=None, accumulation=1, total=4, learning_rate=1e-3, save_every=1):
    mesh = mesh or meshes.make(meshes.MeshConfig(fsdp=1), jax.devices()[:1])
    adam = optimizer.make(optimizer.OptimizerConfig(learning_rate=learning_rate), total)
    start = state.create(MODEL, transformer.init(MODEL, key=jax.random.key(0)), adam, mesh)
    end = loop.fit(start, step.make(_loss, adam, accumulation=accumulation), _batch, num_steps, label="test",
                   workdir=workdir, mesh=mesh, save_every=save_every)
    return jax.device_get(end.params)


def _gap(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path):
    whole = _run(tmp_path / "whole", 4)
    _run(tmp_path / "cut", 2)
    cut = _run(tmp_path / "cut", 4)
    assert _gap(whole, cut) == 0.0
    assert metrics.read(tmp_path / "whole/metrics.jsonl") == metrics.read(tmp_path / "cut/metrics.jsonl")
    assert any((tmp_path / "whole/tensorboard").iterdir())


def test_accumulated_and_sharded_steps_are_the_whole_step(tmp_path):
    # SGD-like comparison: after one AdamW step the sign decides, so the first moments' gradients are compared.
    params = transformer.init(MODEL, key=jax.random.key(0))
    batch = _batch(1)
    whole = jax.grad(lambda p: _loss(p, batch)[0])(params)
    parts = [{name: value[part::2] if np.ndim(value) else value for name, value in batch.items()} for part in (0, 1)]
    added = jax.tree.map(lambda a, b: a + b,
                         *[jax.grad(lambda p, rows=rows: _loss(p, rows)[0])(params) for rows in parts])
    assert _gap(whole, added) < 1e-6
    one = _run(tmp_path / "one", 1, save_every=0)
    mesh = meshes.make(meshes.MeshConfig(data=2, fsdp=2, tensor=2))
    for name, options in (("accumulated", {"accumulation": 2}), ("sharded", {"mesh": mesh})):
        other = _run(tmp_path / name, 1, save_every=0, **options)
        rows = [metrics.read(tmp_path / each / "metrics.jsonl")[0] for each in ("one", name)]
        assert rows[0]["grad_norm"] == pytest.approx(rows[1]["grad_norm"], rel=1e-5), name
        assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-5), name
        assert _gap(one, other) < 2.1e-3, name  # one AdamW step of 1e-3 moves no weight further


@pytest.mark.parametrize("rate", [1e-6, 1e-3])
def test_the_first_step_learns_even_at_the_rates_of_rl(tmp_path, rate):
    before = jax.device_get(transformer.init(MODEL, key=jax.random.key(0)))
    after = _run(tmp_path, 1, learning_rate=rate, save_every=0)
    changed = np.mean([np.mean(x != y) for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)])
    assert changed > 0.5


def test_the_schedule_rises_to_the_peak_and_falls_to_zero():
    rate = optimizer.schedule(optimizer.OptimizerConfig(learning_rate=1.0, warmup_steps=3, schedule="cosine"), 10)
    np.testing.assert_allclose([rate(i) for i in (0, 1, 3, 10)], [0.25, 0.5, 1.0, 0.0], atol=1e-6)
    assert optimizer.schedule(optimizer.OptimizerConfig(learning_rate=0.5), 10)(0) == 0.5
    with pytest.raises(ValueError, match="warmup_steps=11"):
        optimizer.make(optimizer.OptimizerConfig(warmup_steps=11), 10)


def test_an_accumulation_that_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match="accumulation=3 does not divide the 8 rows"):
        _run(tmp_path, 1, accumulation=3, save_every=0)
