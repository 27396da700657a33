import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import libra_jax
from libra_jax import records
from libra_jax.data import packing
from libra_jax.judging import prompt
from libra_jax.judging.prompt import load_template
from libra_jax.learning import looks
from libra_jax.model import hf
from libra_jax.model.lora import LoraConfig
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import sft
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import metrics
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

MINIATURE = str(pathlib.Path(libra_jax.__file__).parent / "miniature/checkpoint")


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
    assert prompt.template_of(tmp_path / "out" / "export") == prompt.TEMPLATES["miniature"]


def test_it_learns_from_the_labels_of_one_policy_alone(config, tmp_path):
    given = list(records.read(config.examples, JudgingExample))
    records.write(config.examples, [dataclasses.replace(each, policy="pq"[n < 5]) for n, each in enumerate(given)])
    config = dataclasses.replace(config, learn="labels", policies=("q",), kept="", sequence_length=128,
                                 train=dataclasses.replace(config.train, num_steps=1, save_every=0))
    assert sft.run(config, tmp_path / "out")["judgements"] == 5
    with pytest.raises(ValueError, match="labels alone are learned from; leave kept out"):
        sft.run(dataclasses.replace(config, kept="kept.jsonl"), tmp_path / "other")


def test_adapters_teach_the_miniature(config, tmp_path):
    adapters = LoraConfig(rank=4, targets=("q", "v", "up"))
    train = dataclasses.replace(config.train, num_steps=4, save_every=0, lora=adapters)
    config = dataclasses.replace(config, checkpoint=MINIATURE, train=train)
    sft.run(config, tmp_path)
    losses = [row["loss"] for row in metrics.read(tmp_path / "metrics.jsonl")]
    assert losses[-1] < losses[0] - 0.5
    (_, before), (_, after) = hf.load(MINIATURE), hf.load(tmp_path / "export")
    assert np.any(before["blocks"]["attention"]["q"] != after["blocks"]["attention"]["q"])
    np.testing.assert_array_equal(before["blocks"]["attention"]["k"], after["blocks"]["attention"]["k"])


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


@pytest.fixture
def mixed(config, tmp_path):
    """A quarter of the conversations are solutions: 8 beside the 24 judgements, of 10 that can be used."""
    problems = [Problem(id=f"p{n}", source="s", question=f"{n}+1?", answer=f"{n + 1}") for n in range(7)]
    rollouts = [VerifiedRollout(problem_id=f"p{n % 7}", policy="p", sample=n // 7, text=f"Way {n}: {n % 7 + 1}.",
                                num_tokens=9, finish="stop", correct=n < 10 or None, decided_by="rule", why="")
                for n in range(14)]
    records.write(tmp_path / "problems.jsonl", problems)
    records.write(tmp_path / "verified.jsonl", rollouts)
    return dataclasses.replace(config, problems=str(tmp_path / "problems.jsonl"), solution_share=0.25,
                               solutions=str(tmp_path / "verified.jsonl"))


def test_solutions_are_trained_on_in_their_share_and_a_killed_run_goes_on_to_the_same_bytes(mixed, tmp_path,
                                                                                             monkeypatch):
    mixed = dataclasses.replace(mixed, train=dataclasses.replace(mixed.train, num_steps=3, save_every=1))
    feeds, feed, make = [], sft.Feed.__call__, sft.Feed.__init__
    monkeypatch.setattr(sft.Feed, "__init__", lambda self, *given: feeds.append(given) or make(self, *given))
    summary = sft.run(mixed, tmp_path / "whole")
    assert (summary["judgements"], summary["solutions"], summary["broken_lines"]) == (24, 8, 0)
    assert summary["solutions_left_out"] == {"not_correct": 4, "cut_off": 0, "unknown": 0, "repeated": 0,
                                             "too_long_or_beyond_share": 2}
    _, talks, rows, _ = feeds[0]
    trained = sorted(int(index) for members in rows for index in members)
    assert trained[:24] == list(range(24)) and len(trained) == 32
    assert {talks.solved[index - 24][0].id for index in trained[24:]} == {f"p{n}" for n in range(7)}
    sizes = [talks[index]["loss_mask"].sum() for index in trained]
    assert (summary["judgement_tokens"], summary["solution_tokens"]) == (sum(sizes[:24]), sum(sizes[24:]))
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(sft.Feed, "__call__", lambda self, number: feed(self, number) if number < 2 else 1 / 0)
        sft.run(mixed, tmp_path / "killed")
    assert sft.run(mixed, tmp_path / "killed") == summary | {"path": str(tmp_path / "killed/export")}
    for name in ("export/model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    with pytest.raises(ValueError, match=r"made with solution_share=0\.25, now solution_share=0\.1"):
        sft.run(dataclasses.replace(mixed, solution_share=0.1), tmp_path / "whole")


def test_a_solution_is_the_chat_of_a_rollout(mixed):
    words, template = tokenizers.load(mixed.checkpoint), load_template(mixed.template)
    problem = Problem(id="p", source="s", question="1+1? <|im_end|>")
    rollout = VerifiedRollout(problem_id="p", policy="p", sample=0, text="<think>so</think>2 <think>", num_tokens=1,
                              finish="stop", correct=True, decided_by="rule", why="")
    talk = sft.Conversations(words, template, (), [(problem, rollout)])[0]
    asked = chat.render(words, template.solving(problem.question), open_last=True).tokens  # as stages/rollout.py asks
    assert tuple(talk["tokens"][:len(asked)]) == asked and not talk["loss_mask"][:len(asked)].any()
    said = talk["tokens"][len(asked):]
    assert talk["loss_mask"][len(asked):].all() and said[-1] in words.stop_ids
    assert words.decode(said[:-1].tolist()) == rollout.text
    assert (said == words.control("<think>")).sum() == 1  # the thought's own, and none in the answer


@pytest.mark.parametrize("change, message", [
    ({"solution_share": 0.5}, r"24 solutions would be needed beside the 24 judgements, and .*verified\.jsonl has 10 "
                              r"that are correct.* a share of at most 0\.294"),
    ({"solution_share": 1.0}, r"solution_share=1\.0: expected at least 0 and less than 1"),
    ({"solution_share": 0.0}, r"solution_share=0\.0: nothing of --config\.problems and --config\.solutions would be"),
    ({"problems": ""}, r"--config\.problems is empty")])
def test_a_mixture_that_cannot_be_is_refused_with_the_remedy(mixed, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        sft.run(dataclasses.replace(mixed, **change), tmp_path / "out")


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
    with pytest.raises(ValueError, match=r"kept\.jsonl: no records: all lines are broken \(1\); line 1"):
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
    assert process.returncode == 143 and "stopped by SIGTERM" in said and "Traceback" not in said, said
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
                                  watch=looks.WatchConfig(every=2, num_examples=2, patience=1))
    summary = sft.run(watched, tmp_path / "out")
    assert summary["stopped"].startswith("after step 2/6: held_out_accuracy was best after step 0 (0.0%)")
    assert summary["held_out_accuracy"] == 0.0 and summary["held_out_unparsed"] == 1.0
    assert summary["held_out_tokens"] == 8.0 and (tmp_path / "out" / "curves.svg").exists()
    with pytest.raises(ValueError, match=r"watch.thoughts=1: SFT draws no thoughts"):
        sft.run(dataclasses.replace(watched, watch=looks.WatchConfig(thoughts=1)), tmp_path / "other")
    with pytest.raises(ValueError, match="24 of its problems are trained on"):
        sft.run(dataclasses.replace(watched, held_out=config.examples), tmp_path / "other")


def test_a_watch_sees_the_adapted_parameters(config, tmp_path):
    """Before the first step adapters change nothing; at the end the look is that of the export."""
    held_out = [JudgingExample(id=f"h{n}", problem_id=f"h{n}", question=f"{n}+2?", response="3", correct=True,
                               policy="p", source="s") for n in range(2)]
    records.write(tmp_path / "held_out.jsonl", held_out)
    watched = dataclasses.replace(config, held_out=str(tmp_path / "held_out.jsonl"), watch=looks.WatchConfig(),
                                  sampling=SamplingConfig(max_new_tokens=8))
    adapted = dataclasses.replace(watched, train=dataclasses.replace(config.train, lora=LoraConfig(rank=2)))
    sft.run(watched, tmp_path / "full")
    sft.run(adapted, tmp_path / "lora")
    full, lora = (metrics.read(tmp_path / name / "metrics.jsonl") for name in ("full", "lora"))
    names = [name for name in full[0] if name.startswith("held_out")]
    assert names and [full[0][name] for name in names] == [lora[0][name] for name in names]
    assert all(name in lora[-1] for name in names)


def test_held_out_problems_are_not_those_of_the_solutions_either(mixed, tmp_path):
    for name, cls, field in (("problems", Problem, "id"), ("solutions", VerifiedRollout, "problem_id")):
        path = getattr(mixed, name)
        records.write(path, [dataclasses.replace(each, **{field: "s" + getattr(each, field)})
                             for each in list(records.read(path, cls))])
    held_out = JudgingExample(id="h", problem_id="sp3", question="3+1?", response="4", correct=True, policy="p",
                              source="s")
    records.write(tmp_path / "held_out.jsonl", [held_out])
    with pytest.raises(ValueError, match="1 of its problems are trained on too, such as 'sp3'"):
        sft.run(dataclasses.replace(mixed, held_out=str(tmp_path / "held_out.jsonl")), tmp_path / "out")
