"""A training run: every step learns, parts add up to the whole, devices agree, and a resumed run is the same run."""

import jax
import jax.numpy as jnp
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


def test_masters_of_bfloat16_would_not_move_at_the_rates_of_rl():
    mesh = meshes.make(meshes.MeshConfig(fsdp=1), jax.devices()[:1])
    adam = optimizer.make(optimizer.OptimizerConfig(learning_rate=1e-6), 1)
    once = step.make(lambda params, batch: (jnp.sum(params["w"] * batch["x"]), {}), adam)
    batch = {"x": np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)}
    w = np.random.default_rng(0).normal(size=(64, 64)) * 0.02  # as large as the weights of a model are
    moved = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        params = {"w": jnp.asarray(w, dtype)}
        zero = jnp.zeros((), jnp.int32)
        start = state.TrainState(step=zero, skipped=zero + 0, params=params, opt_state=adam.init(params))
        before = jax.device_get(params["w"])
        end, _ = once(start, step.put(batch, mesh))
        moved[dtype] = np.mean(before != jax.device_get(end.params["w"]))
    assert moved[jnp.float32] > 0.9 and moved[jnp.bfloat16] < 0.05, moved


def test_the_schedule_rises_to_the_peak_and_falls_to_zero():
    rate = optimizer.schedule(optimizer.OptimizerConfig(learning_rate=1.0, warmup_steps=3, schedule="cosine"), 10)
    np.testing.assert_allclose([rate(i) for i in (0, 1, 3, 10)], [0.25, 0.5, 1.0, 0.0], atol=1e-6)
    assert optimizer.schedule(optimizer.OptimizerConfig(learning_rate=0.5), 10)(0) == 0.5
    with pytest.raises(ValueError, match="warmup_steps=11"):
        optimizer.make(optimizer.OptimizerConfig(warmup_steps=11), 10)


def test_an_accumulation_that_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match="accumulation=3 does not divide the 8 rows"):
        _run(tmp_path, 1, accumulation=3, save_every=0)


def test_a_step_that_is_not_finite_or_has_no_gradient_changes_nothing_but_its_number(toy):
    mesh = meshes.make(meshes.MeshConfig(fsdp=1), jax.devices()[:1])
    now, once = toy.start(mesh)
    good = toy.batch_at(0, jax.device_get(now.params))
    now, values = once(now, step.put(good, mesh))  # the optimizer has momentum, with which it would move on
    assert (values["skipped"], values["no_signal"], int(now.skipped)) == (0, 0, 0)
    nan, huge, zero = (good | {"y": np.full_like(good["y"], value)} for value in (np.nan, 1e30, 0.0))
    for number, (batch, skipped, no_signal, in_a_row) in enumerate([
            (nan, 1, 0, 1), (huge, 1, 0, 2), (zero | {"x": 0 * good["x"]}, 0, 1, 0), (nan, 1, 0, 1)], 2):
        before = jax.device_get(now)
        now, values = once(now, step.put(batch, mesh))
        assert (values["skipped"], values["no_signal"]) == (skipped, no_signal), number
        assert (int(now.step), int(now.skipped)) == (number, in_a_row)
        assert _gap(before.params, jax.device_get(now.params)) == 0 == _gap(before.opt_state, now.opt_state)
    before = jax.device_get(now)
    now, values = once(now, step.put(good, mesh))
    assert int(now.skipped) == 0 and _gap(before.params, jax.device_get(now.params)) > 0


def test_accumulated_parts_of_which_one_is_not_finite_are_skipped_together(toy):
    mesh = meshes.make(meshes.MeshConfig(fsdp=1), jax.devices()[:1])
    now, _ = toy.start(mesh)
    batch = toy.batch_at(0, jax.device_get(now.params))
    batch["y"][3] = np.inf
    before = jax.device_get(now)
    adam = optimizer.make(optimizer.OptimizerConfig(learning_rate=1e-2), toy.STEPS)
    now, values = step.make(toy.loss, adam, accumulation=4)(now, step.put(batch, mesh))
    assert values["skipped"] == 1 and _gap(before.params, jax.device_get(now.params)) == 0


@pytest.mark.parametrize("limit, stops_after", [(2, 7), (1, 6)])
def test_too_many_skipped_steps_in_a_row_end_the_run_and_leave_the_batch(toy, tmp_path, limit, stops_after):
    with pytest.raises(ValueError, match=rf"step {stops_after}: .*not finite {limit} times .*max_skipped={limit}"):
        toy.run(tmp_path, num_steps=12, save_every=2, max_skipped=limit)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert [row["skipped"] for row in rows] == [0.0] * 5 + [1.0] * limit and np.isnan(rows[-1]["loss"])
    assert '"loss": null' in (tmp_path / "metrics.jsonl").read_text()
    left = np.load(tmp_path / "skipped" / f"step_{stops_after}.npz")
    assert np.isnan(left["y"]).all() and np.isfinite(left["x"]).all() and left["rows"] == 8
    with pytest.raises(ValueError, match=rf"step {stops_after}:"):  # it goes on from a whole checkpoint, and ends again
        toy.run(tmp_path, num_steps=12, save_every=2, max_skipped=limit)
    whole = toy.run(tmp_path, num_steps=12, save_every=2, max_skipped=3)  # steps 6 and 7 alone are skipped
    skipped = [row["skipped"] for row in metrics.read(tmp_path / "metrics.jsonl")]
    assert skipped == [0.0] * 5 + [1.0] * 2 + [0.0] * 5 and int(whole.step) == 12
    with pytest.raises(ValueError, match="max_skipped=0"):
        toy.run(tmp_path, max_skipped=0)


def test_the_count_of_skipped_steps_outlives_a_kill(toy, tmp_path):
    toy.run(tmp_path, num_steps=6, save_every=6, max_skipped=2)  # its last step is the first that is skipped
    with pytest.raises(ValueError, match=r"step 7: .*not finite 2 times"):
        toy.run(tmp_path, num_steps=8, save_every=6, max_skipped=2)
