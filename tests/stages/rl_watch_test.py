"""A watch over a run of RL samples with its parameters (when it looks, and how it ends a run: train/watching_test)."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from libra_jax.model import hf
from libra_jax.sampling import engine
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import rl
from libra_jax.train import metrics, preemption
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

PROMPTS = [(5, 6, 7), (8, 9), (10, 11, 12, 13), (14,)]
LOOK = SamplingConfig(num_samples=2, max_new_tokens=8, batch_size=16, seed=5)


@pytest.fixture
def config(tiny_checkpoint):
    return rl.Config(checkpoint=tiny_checkpoint, template="miniature", groups=4, redraws=0,
                     sampling=SamplingConfig(num_samples=4, max_new_tokens=8, batch_size=16),
                     train=training.TrainConfig(num_steps=3, save_every=2,
                                                optimizer=OptimizerConfig(learning_rate=1e-2)))


def low_tokens(owners, samples):
    """The share of a sample's tokens below 64, of a vocabulary of 260."""
    return [float(np.mean(sample.tokens < 64)) for sample in samples], {}


def test_it_samples_with_the_current_parameters_and_changes_nothing_else(config, tmp_path):
    """While the groups of the next step are drawn ahead, too; and a run that is stopped in a look goes on the same."""
    config, signals, seen = dataclasses.replace(config, overlap=True, sampling_devices=4), [], []

    def watched(each):
        again = each.sample(PROMPTS[:2], LOOK, ids=[7, 8])
        seen.append((each.step, [sample.tokens.tolist() for sample in again]))
        return {"held_out": np.mean([np.mean(sample.tokens < 64) for sample in again])}

    def signalled(each):
        if each.step == 2 and not signals:  # the look at it is what the signal ends
            signals.append(os.kill(os.getpid(), signal.SIGTERM))
        return watched(each)

    def train(name, **options):
        rl.train(config, PROMPTS, (), low_tokens, tmp_path / name, **options)
        return metrics.read(tmp_path / name / "metrics.jsonl"), tmp_path / name / "export/model.safetensors"

    rows, weights = train("whole", watch=watched, watch_every=2)
    model, params = hf.load(weights.parent)
    last = engine.generate(model, params, PROMPTS[:2], LOOK, stop_ids=(), ids=[7, 8])
    assert seen[-1] == (3, [sample.tokens.tolist() for sample in last]) and seen[-1][1] != seen[0][1]
    with pytest.raises(preemption.Preempted):
        train("cut", watch=signalled, watch_every=2)
    assert metrics.read(tmp_path / "cut" / "metrics.jsonl")[-1]["step"] == 2
    cut, cut_weights = train("cut", watch=signalled, watch_every=2)
    assert cut == rows and cut_weights.read_bytes() == weights.read_bytes()
    alone, alone_weights = train("alone")
    assert [row["step"] for row in rows if row.pop("held_out", None)] == [0, 2, 3]
    assert rows == [{"step": 0}, *alone] and alone_weights.read_bytes() == weights.read_bytes()
