import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from libra_jax import records
from libra_jax.data import packing
from libra_jax.model import hf
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import sft, watches
from libra_jax.train import metrics
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


@pytest.fixture
def config(tmp_path, tiny_checkpoint):
    examples = [JudgingExample(id=f"e{n}", problem_id=f"p{n}", question=f"{n}+1?", response=f"It is {n}.",
                               correct=n % 2 == 0, policy="p", source="s") for n in range(24)]
    kept = [Judgement(example_id=f"e{n}", judge="j", sample=0, thought="so " * (n % 5), num_tokens=9,
                      verdict="correct" if n % 2 == 0 else "incorrect") for n in range(24)]
    records.write(tmp_path / "examples.jsonl", examples)
    records.write(tmp_path / "kept.jsonl", kept)
    return sft.Config(examples=str(tmp_path / "examples.jsonl"), kept=str(tmp_path / "kept.jsonl"),
                      checkpoint=tiny_checkpoint, template="miniature", sequence_length=192, batch_size=8,
                      train=training.TrainConfig(num_steps=6, save_every=2,
                                                 optimizer=OptimizerConfig(learning_rate=1e-2)))


def test_it_learns_and_exports_a_whole_checkpoint(config, tmp_path):
    summary = sft.run(config, tmp_path / "out")
    losses = [row["loss"] for row in metrics.read(tmp_path / "out" / "metrics.jsonl")]
    assert len(losses) == 6 and losses[-1] < losses[0] - 0.3
    assert summary["judgements"] == 24 and summary["too_long"] == 0 and summary["loss"] == losses[-1]
    model, params = hf.load(summary["path"])
    assert model.num_layers == 1 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert (tmp_path / "out" / "export" / "tokenizer.json").exists()


def test_devices_and_accumulation_change_nothing(config, tmp_path):
    one = dataclasses.replace(config.train, num_steps=1, save_every=0)
    halves = meshes.MeshConfig(fsdp=2, tensor=4)
    runs = {"sharded": one, "accumulated": dataclasses.replace(one, accumulation=4, mesh=halves),
            "tensor": dataclasses.replace(one, mesh=meshes.MeshConfig(data=2, fsdp=2, tensor=2)),
            "sequence": dataclasses.replace(one, mesh=meshes.MeshConfig(fsdp=1, sequence=4, tensor=2), logit_chunk=32),
            "splash": dataclasses.replace(one, attention="splash_interpret",
                                          mesh=meshes.MeshConfig(fsdp=2, sequence=2, tensor=2))}
    rows = {}
    for name, train in runs.items():
        sft.run(dataclasses.replace(config, train=train, sequence_length=256), tmp_path / name)
        rows[name] = metrics.read(tmp_path / name / "metrics.jsonl")[0]
    for name in rows:
        assert rows[name]["loss"] == pytest.approx(rows["sharded"]["loss"], rel=1e-5), name
        assert rows[name]["grad_norm"] == pytest.approx(rows["sharded"]["grad_norm"], rel=1e-4), name


def test_the_hosts_of_a_run_feed_the_batches_of_one(config):
    talks = [{"tokens": np.full(60 + number, number, np.int32), "loss_mask": np.ones(60 + number, np.int32)}
             for number in range(40)]
    rows = packing.plan([len(talk["tokens"]) for talk in talks], config.sequence_length)
    one = sft.Feed(config, talks, rows, 256)
    assert len(one.shares) == 1 and len(rows) % config.batch_size
    hosts = []
    for own in (0, 1):
        hosts.append(sft.Feed(config, talks, rows, 256))
        hosts[own].shares, hosts[own].own = [np.array([0, 1, 4, 5]), np.array([2, 3, 6, 7])], own
    for number in (0, 1, 2, 5, 1):  # also when a run is resumed
        whole = one(number)
        for host in hosts:
            share = host(number)
            for name in whole:
                np.testing.assert_array_equal(share[name], whole[name][host.shares[host.own]])
        members = [index for row in one.chosen(number) for index in rows[row]]
        assert sorted(np.unique(whole["tokens"][whole["loss_mask"]])) == sorted(set(members))


def test_broken_and_too_long_lines_are_counted_and_set_aside(config, tmp_path):
    with open(config.kept, "a", encoding="utf-8") as kept:
        kept.write('{"example_id": 3}\n')
        kept.write(records.to_json(Judgement(example_id="e0", judge="j", sample=1, thought="a" * 500,
                                             verdict="correct", num_tokens=9)) + "\n")
    train = dataclasses.replace(config.train, num_steps=1, save_every=0)
    summary = sft.run(dataclasses.replace(config, train=train), tmp_path / "out")
    assert (summary["judgements"], summary["too_long"], summary["broken_lines"]) == (24, 1, 1)
    note = json.loads((tmp_path / "out" / "kept.rejected.jsonl").read_text())
    assert note["line"] == 25


def test_errors_name_the_remedy(config, tmp_path):
    with pytest.raises(ValueError, match=r"batch_size=6: expected a multiple of 8 = 1 updates \* 8 devices"):
        sft.run(dataclasses.replace(config, batch_size=6), tmp_path / "out")
    with pytest.raises(ValueError, match=r"--config\.kept is empty"):
        sft.run(dataclasses.replace(config, kept=""), tmp_path / "out")
    with pytest.raises(ValueError, match=r"each of the 24 conversations is longer than sequence_length=16"):
        sft.run(dataclasses.replace(config, sequence_length=16), tmp_path / "out")
    one = Judgement(example_id="e0", judge="j", sample=0, thought="", verdict="incorrect", num_tokens=1)
    for verdict in ("incorrect", "unparsed"):
        records.write(tmp_path / "kept.jsonl", [dataclasses.replace(one, verdict=verdict)])
        with pytest.raises(ValueError, match=rf"'e0' says '{verdict}', the label is 'correct'; give the kept.jsonl"):
            sft.run(config, tmp_path / "out")
    (tmp_path / "kept.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"all 1 lines are broken; the first: .*kept\.jsonl:1"):
        sft.run(config, tmp_path / "out")
    records.write(tmp_path / "kept.jsonl", [dataclasses.replace(one, example_id="other")])
    with pytest.raises(ValueError, match="example 'other' is not in"):
        sft.run(config, tmp_path / "out")


def test_a_run_with_another_config_is_refused(config, tmp_path):
    train = dataclasses.replace(config.train, num_steps=1, save_every=0)
    sft.run(dataclasses.replace(config, train=train), tmp_path / "out")
    other = dataclasses.replace(config, train=dataclasses.replace(train, num_steps=2))
    with pytest.raises(ValueError, match=r"made with train\.num_steps=1, now train\.num_steps=2"):
        sft.run(other, tmp_path / "out")


def test_a_run_asked_to_stop_at_a_random_moment_goes_on_to_the_same_bytes(config, tmp_path):
    """SIGTERM, as a preemption sends it; tests/train/ has runs that are killed."""
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=60, save_every=0))
    flags = [f"--config.{name}={getattr(config, name)}"
             for name in ("examples", "kept", "checkpoint", "template", "sequence_length", "batch_size")]
    flags += ["--config.train.num_steps=60", "--config.train.save_every=0",
              "--config.train.optimizer.learning_rate=0.01", f"--workdir={tmp_path / 'killed'}"]
    process = subprocess.Popen([sys.executable, "-m", "libra_jax.stages.sft", *flags], env=dict(os.environ),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines, moment = tmp_path / "killed" / "metrics.jsonl", random.randrange(1, 50)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if lines.exists() and lines.read_bytes().count(b"\n") >= moment:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)  # what a preemption gives
    assert not (tmp_path / "killed" / "export" / "config.json").exists(), "the run ended before it was stopped"
    assert process.returncode == 0 and "stopped by SIGTERM" in said and "Traceback" not in said, said
    assert lines.read_bytes().count(b"\n") >= moment
    sft.run(config, tmp_path / "killed")
    sft.run(config, tmp_path / "whole")
    for name in ("export/model.safetensors", "export/config.json", "metrics.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (name, moment)


def test_a_held_out_slice_is_judged_while_it_trains_and_may_end_the_run(config, tmp_path):
    held_out = [JudgingExample(id=f"h{n}", problem_id=f"h{n}", question=f"{n}+2?", response="3", correct=True,
                               policy="p", source="s") for n in range(3)]
    records.write(tmp_path / "held_out.jsonl", held_out)
    watched = dataclasses.replace(config, held_out=str(tmp_path / "held_out.jsonl"),
                                  sampling=SamplingConfig(max_new_tokens=8, batch_size=8),
                                  watch=watches.WatchConfig(every=2, num_examples=2, patience=1))
    summary = sft.run(watched, tmp_path / "out")
    assert summary["stopped"].startswith("after step 2/6: held_out_accuracy was best after step 0 (0.0%)")
    assert summary["held_out_accuracy"] == 0.0 and summary["held_out_unparsed"] == 1.0
    assert summary["held_out_tokens"] == 8.0 and (tmp_path / "out" / "curves.svg").exists()
    with pytest.raises(ValueError, match=r"watch.thoughts=1: SFT draws no thoughts"):
        sft.run(dataclasses.replace(watched, watch=watches.WatchConfig(thoughts=1)), tmp_path / "other")
    with pytest.raises(ValueError, match="24 of its problems are in"):
        sft.run(dataclasses.replace(watched, held_out=config.examples), tmp_path / "other")
