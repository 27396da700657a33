"""Runs that train adapters: what is saved, what comes out, and that they go on exactly, on any number of devices."""

import contextlib
import dataclasses
import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from libra_jax.model import hf, lora, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel.mesh import MeshConfig
from libra_jax.train import metrics
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

MODEL = ModelConfig(vocab_size=16, num_layers=2, model_size=16, num_heads=2, num_kv_heads=1, head_size=8,
                    feedforward_size=24)
EXPORT, ADAPTER = "export/model.safetensors", "adapter/adapter_model.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    checkpoint: str
    template: str = "libra"
    train: training.TrainConfig


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "checkpoint"
    hf.save(path, MODEL, transformer.init(MODEL, key=jax.random.key(0)))
    (path / "tokenizer.json").write_text("{}")  # goes along, is not read
    return _Config(checkpoint=str(path), train=training.TrainConfig(
        num_steps=3, save_every=2, optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.1),
        lora=lora.LoraConfig(rank=2, alpha=4.0)))


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """An uninterrupted run on one device: its folder, what it said, and what it gave to `prepare`."""
    workdir, found, said = tmp_path_factory.mktemp("runs") / "whole", [], io.StringIO()
    with contextlib.redirect_stderr(said):
        fit(config, workdir, prepare=lambda model, params, mesh: found.append(params))
    return workdir, said.getvalue(), found[0]


def changed(config, **train):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **train))


def fit(config, workdir, *, devices=1, stop_at=-1, prepare=None):
    def loss_fn(model):
        def loss(params, batch):
            positions = jnp.broadcast_to(jnp.arange(8), batch["tokens"].shape)
            logprobs = transformer.token_logprobs(model, params, batch["tokens"], positions=positions)
            return -logprobs.sum() / batch["rows"], {"loss": -logprobs.sum() / batch["rows"]}
        return loss

    def batch_at(number, params):
        if number == stop_at:
            raise KeyboardInterrupt
        seen = float(np.asarray(lora.merge(params)["blocks"]["feedforward"]["up"]).sum())  # as RL looks at them
        tokens = np.random.default_rng(number).integers(1, 16, (8, 8))
        return {"tokens": tokens.astype(np.int32), "rows": np.float32(8), "metric/seen": seen}

    return training.fit(config, loss_fn, batch_at, "test", workdir, inputs=("checkpoint",), prepare=prepare,
                        devices=jax.devices()[:devices])


def test_adapters_alone_are_trained_and_saved_and_the_export_is_their_sum(config, whole):
    workdir, said, given = whole
    assert "test: LoRA of rank 2 trains 928 numbers beside 4,208 frozen ones (22.05%)" in said
    sides = [16 + 16, 16 + 8, 16 + 8, 16 + 16, *[16 + 24] * 3]  # of q, k, v, o and the feed-forward
    assert 928 == 2 * 2 * sum(sides) == lora.num_parameters(MODEL, config.train.lora)
    base, params = (hf.load(path)[1] for path in (config.checkpoint, workdir / "export"))
    jax.tree.map(np.testing.assert_array_equal, given, base)  # what a reference is
    moved = [jax.tree_util.keystr(path, simple=True, separator=".") for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(base), jax.tree.leaves(params), strict=True) if np.any(old != new)]
    assert moved == sorted(f"blocks.{part}.{name}" for name, (part, _) in lora.TARGETS.items())
    saved = jax.tree.leaves(ocp.StandardCheckpointer().metadata(workdir / "checkpoints/2").item_metadata.tree)
    assert sum(math.prod(leaf.shape) for leaf in saved if leaf.shape) == 3 * 928  # and AdamW's moments
    rows = metrics.read(workdir / "metrics.jsonl")
    assert rows[2]["seen"] != rows[0]["seen"]


def test_a_run_that_was_cut_off_ends_in_the_same_bytes(config, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(config, tmp_path, stop_at=2)
    assert not (tmp_path / EXPORT).exists()
    fit(config, tmp_path)
    for name in (EXPORT, ADAPTER, "adapter/adapter_config.json", "metrics.jsonl"):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes(), name


def test_eight_devices_train_what_one_does(config, whole, tmp_path):
    fit(changed(config, save_every=0, mesh=MeshConfig(data=2, fsdp=2, tensor=2), accumulation=2), tmp_path, devices=8)
    one, eight = (metrics.read(path / "metrics.jsonl") for path in (whole[0], tmp_path))
    for row, other in zip(one, eight, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-3)
    one, eight = (hf.load(path / "export")[1] for path in (whole[0], tmp_path))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), one, eight)


def test_the_frozen_ones_lie_in_the_dtype_of_the_products_and_the_export_in_full(config, tmp_path):
    found = []
    half = changed(config, num_steps=1, save_every=0, compute_dtype="bfloat16")
    fit(half, tmp_path / "run", prepare=lambda model, params, mesh: found.append(params))
    assert found[0]["blocks"]["attention"]["q"].dtype == jnp.bfloat16
    assert found[0]["blocks"]["attention_norm"]["scale"].dtype == jnp.float32
    base, params = (hf.load(path)[1] for path in (config.checkpoint, tmp_path / "run/export"))
    np.testing.assert_array_equal(params["embedding"], base["embedding"])  # not rounded to bfloat16
    assert np.any(params["embedding"] != params["embedding"].astype(jnp.bfloat16))


def test_rank_0_changes_nothing_whatever_else_it_says(config, tmp_path):
    plain = changed(config, lora=lora.OFF, num_steps=2, save_every=0)
    off = changed(plain, lora=lora.LoraConfig(alpha=1.0, targets=("q",)))
    fit(plain, tmp_path / "plain")
    fit(off, tmp_path / "off")
    for name in (EXPORT, "metrics.jsonl"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "off" / name).read_bytes()
    assert not (tmp_path / "off/adapter").exists()
    base, params = (hf.load(path)[1] for path in (config.checkpoint, tmp_path / "off/export"))
    assert all(np.any(old != new) for old, new in zip(jax.tree.leaves(base), jax.tree.leaves(params), strict=True))
