"""What the config of a training run says reaches its loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.model import hf, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.train import metrics, watching
from libra_jax.train import run as training


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    checkpoint: str
    template: str = "libra"
    train: training.TrainConfig


@pytest.mark.parametrize("limit", [1, 2])
def test_the_limit_of_skipped_steps_is_the_configs(tmp_path, limit):
    model = ModelConfig(vocab_size=8, num_layers=1, model_size=8, num_heads=1, num_kv_heads=1, head_size=8,
                        feedforward_size=8)
    hf.save(tmp_path / "checkpoint", model, transformer.init(model, key=jax.random.key(0)))
    config = _Config(checkpoint=str(tmp_path / "checkpoint"), train=training.TrainConfig(max_skipped=limit))

    def loss_fn(model):
        def loss(params, batch):
            value = jnp.sum(jax.tree.leaves(params)[0]) * jnp.mean(batch["x"])
            return value, {"loss": value}
        return loss

    with pytest.raises(ValueError, match=rf"step {limit}: loss or gradient was not finite {limit} times in a row"):
        training.fit(config, loss_fn, lambda number, params: {"x": np.full(8, np.inf, np.float32)}, "test",
                     tmp_path / "run", inputs=("checkpoint",))
    assert len(metrics.read(tmp_path / "run" / "metrics.jsonl")) == limit
    assert not (tmp_path / "run" / "export").exists()


def test_a_run_that_its_watch_ended_exports_the_last_parameters_and_says_why(tmp_path):
    model = ModelConfig(vocab_size=8, num_layers=1, model_size=8, num_heads=1, num_kv_heads=1, head_size=8,
                        feedforward_size=8)
    hf.save(tmp_path / "checkpoint", model, transformer.init(model, key=jax.random.key(0)))

    (tmp_path / "checkpoint" / "tokenizer.json").write_text("{}")

    def loss_fn(model):
        def loss(params, batch):
            value = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)) * jnp.mean(batch["x"])
            return value, {"loss": value}
        return loss

    def enough(step, params, rows):
        if step == 3:
            raise watching.Enough("held_out fell", {"held_out": 0.25})
        return {}

    def never(*_):
        raise AssertionError("it looked again")

    def fit(name, num_steps, watch):
        config = _Config(checkpoint=str(tmp_path / "checkpoint"),
                         train=training.TrainConfig(num_steps=num_steps, save_every=2))
        return training.fit(config, loss_fn, lambda number, params: {"x": np.full(8, number + 1, np.float32)}, "test",
                            tmp_path / name, inputs=("checkpoint",), watch=watch, watch_every=1)

    last = fit("out", 5, enough)
    assert last["stopped"] == "after step 3/5: held_out fell" and last["held_out"] == 0.25
    assert "stopped" not in fit("short", 3, None)
    weights, wanted = (tmp_path / name / "export/model.safetensors" for name in ("out", "short"))
    assert weights.read_bytes() == wanted.read_bytes()
    assert fit("out", 5, never) == last  # it is finished
    (weights.parent / "config.json").unlink()  # as if it was killed while it exported
    assert fit("out", 5, never) == last and weights.read_bytes() == wanted.read_bytes()
