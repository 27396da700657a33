"""A watch over a run of RL: when it looks, what it may sample, and how it ends the run."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from libra_jax.model import hf
from libra_jax.sampling import engine
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import rl
from libra_jax.train import metrics, preemption, watching
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

PROMPTS = [(5, 6, 7), (8, 9), (10, 11, 12, 13), (14,)]
LOOK = SamplingConfig(num_samples=2, max_new_tokens=8, batch_size=16, seed=5)


@pytest.fixture
def config(tiny_checkpoint):
    return rl.Config(checkpoint=tiny_checkpoint, template="miniature", groups=4, redraws=0,
                     sampling=SamplingConfig(num_samples=4, max_new_tokens=8, batch_size=16),
                     train=training.TrainConfig(num_steps=5, save_every=2,
                                                optimizer=OptimizerConfig(learning_rate=1e-2)))


def low_tokens(owners, samples):
    """The share of a sample's tokens below 64, of a vocabulary of 260."""
    return [float(np.mean(sample.tokens < 64)) for sample in samples], {}


def low_held_out(seen):
    return {"held_out": np.mean([np.mean(sample.tokens < 64) for sample in seen.sample(PROMPTS[:2], LOOK)])}


def never(_):
    raise AssertionError("it looked again")


def test_it_samples_with_the_current_parameters_and_changes_nothing_else(config, tmp_path):
    seen = []

    def watch(each):
        again = each.sample(PROMPTS[:2], LOOK, ids=[7, 8])
        seen.append((each.step, [sample.tokens.tolist() for sample in again]))
        return low_held_out(each)

    rl.train(config, PROMPTS, (), low_tokens, tmp_path / "watched", watch=watch, watch_every=2)
    rl.train(config, PROMPTS, (), low_tokens, tmp_path / "alone")
    watched, alone = (metrics.read(tmp_path / name / "metrics.jsonl") for name in ("watched", "alone"))
    assert [row["step"] for row in watched if row.pop("held_out", None)] == [0, 2, 4, 5]
    assert watched == [{"step": 0}, *alone]
    exported = tmp_path / "watched" / "export"
    assert (exported / "model.safetensors").read_bytes() == (tmp_path / "alone/export/model.safetensors").read_bytes()
    model, params = hf.load(exported)
    last = engine.generate(model, params, PROMPTS[:2], LOOK, stop_ids=(), ids=[7, 8])
    assert seen[-1] == (5, [sample.tokens.tolist() for sample in last]) and seen[-1][1] != seen[0][1]


def test_a_run_that_is_stopped_in_a_look_goes_on_to_the_same_bytes(config, tmp_path):
    """While the groups of the next steps are drawn ahead, too."""
    config = dataclasses.replace(config, overlap=True, sampling_devices=4)
    signals = []

    def signalled(seen):
        if seen.step == 2 and not signals:  # the look at it is what the signal ends
            signals.append(os.kill(os.getpid(), signal.SIGTERM))
        return low_held_out(seen)

    def watched(name, watch):
        return rl.train(config, PROMPTS, (), low_tokens, tmp_path / name, watch=watch, watch_every=2)

    watched("whole", low_held_out)
    with pytest.raises(preemption.Preempted):
        watched("cut", signalled)
    assert metrics.read(tmp_path / "cut" / "metrics.jsonl")[-1]["step"] == 2
    watched("cut", signalled)
    for name in ("export/model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_watch_that_ends_the_run_is_named_in_the_summary(config, tmp_path):
    def enough(seen):
        if seen.step == 3:
            raise watching.Enough("held_out fell", {"held_out": 0.25})
        return {}

    def run(name, config, **options):
        return rl.train(config, PROMPTS, (), low_tokens, tmp_path / name, **options)

    last = run("out", config, watch=enough, watch_every=1)
    assert last["stopped"] == "after step 3/5: held_out fell" and last["held_out"] == 0.25
    exported = tmp_path / "out" / "export"
    run("short", dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=3)))
    wanted = (tmp_path / "short" / "export" / "model.safetensors").read_bytes()
    assert (exported / "model.safetensors").read_bytes() == wanted  # the last parameters
    assert run("out", config, watch=enough, watch_every=1) == last  # it is finished
    (exported / "config.json").unlink()  # as if it was killed while it exported
    assert run("out", config, watch=never, watch_every=1) == last
    assert (exported / "model.safetensors").read_bytes() == wanted
