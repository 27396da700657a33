"""Two processes of four devices do what one process of eight does: losses, samples, files, and going on after a kill.

One pair of processes does all of it (tests/hosts/work.py), since starting and compiling is what costs.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from libra_jax import records
from libra_jax.model import hf
from libra_jax.records import Judgement, Rollout
from libra_jax.stages import sft
from libra_jax.train import metrics

SCRIPT = pathlib.Path(__file__).parent / "work.py"
LIMIT = 500  # seconds for the pair, on a machine with other things to do
_spec = importlib.util.spec_from_file_location("hosts_work", SCRIPT)
work = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(work)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which one process, then two, did their work, and what each of the three saw."""
    folder = tmp_path_factory.mktemp("hosts")
    work.write_inputs(folder)
    seen = [work.together(folder, folder / "one", left_behind=folder / "begun by one")]
    leave_half(folder / "one/rollout/rollouts.jsonl", folder / "two/rollout", 5)
    leave_half(folder / "one/reject/judgements.jsonl", folder / "two/reject", 9)
    statuses, seconds = two(folder)
    assert statuses[1] == -9 and statuses[0] not in (0, -9), statuses  # the second was killed, the first gave up
    assert seconds < 60, seconds
    seen += [json.loads((folder / f"seen.{number}.json").read_text()) for number in (0, 1)]
    print(f"process 0 ended {seconds:.1f} s after process 1 was killed, with status {statuses[0]}")
    return folder, seen


def leave_half(whole: pathlib.Path, folder: pathlib.Path, num_lines: int) -> None:
    """What a killed run would have left of `whole`: its note, some lines, and a torn one."""
    folder.mkdir(parents=True)
    note = whole.with_name(whole.name + ".config.json")
    (folder / note.name).write_bytes(note.read_bytes())
    lines = whole.read_bytes().splitlines(keepends=True)
    (folder / f"{whole.name}.partial").write_bytes(b"".join(lines[:num_lines]) + lines[num_lines][:20])


def two(folder: pathlib.Path, *what: str) -> tuple[list[int], float]:
    """Starts both processes; their statuses, and the seconds from the end of the second to that of the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    logs = [folder / f"log.{number}" for number in (0, 1)]
    with contextlib.ExitStack() as stack:
        pair = []
        for number, log in enumerate(logs):
            out = stack.enter_context(log.open("wb"))
            words = [sys.executable, SCRIPT, where, str(number), folder, *what]
            pair.append(subprocess.Popen(words, stdout=out, stderr=out,
                                         env=os.environ | {"XLA_FLAGS": flags}))
            stack.callback(pair[-1].wait)
            stack.callback(pair[-1].kill)
        try:
            deadline = time.monotonic() + LIMIT
            pair[1].wait(LIMIT)
            ended = time.monotonic()
            pair[0].wait(deadline - ended)
        except subprocess.TimeoutExpired:
            pytest.fail(f"not done within {LIMIT} s\n{tails(logs)}")
    if not all((folder / f"seen.{number}.json").exists() for number in (0, 1)):
        pytest.fail(f"statuses {[each.returncode for each in pair]}\n{tails(logs)}")
    return [each.returncode for each in pair], time.monotonic() - ended


def tails(logs) -> str:
    """The ends of both logs."""
    return "\n".join(f"--- {log.name}:\n{log.read_text(errors='replace')[-4000:]}" for log in logs)


def losses(folder: pathlib.Path) -> np.ndarray:
    """[steps, 2] loss and norm of the gradient."""
    return np.array([[row["loss"], row["grad_norm"]] for row in metrics.read(folder / "metrics.jsonl")
                     if "loss" in row])


@pytest.mark.parametrize("stage", ["sft", "rl", "dpo"])
def test_training_gives_the_same_losses(ran, stage):
    folder, _ = ran
    one, both = losses(folder / "one" / stage), losses(folder / "two" / stage)
    assert len(one) == {"sft": 4, "rl": 2, "dpo": 2}[stage] and (one[:, 1] > 0.1).all()
    np.testing.assert_allclose(both, one, rtol=1e-5, atol=1e-8)


def test_a_watch_ends_the_run_on_both_processes_at_one_step(ran):
    folder, (one, first, second) = ran
    rows = {name: metrics.read(folder / name / "rl" / "metrics.jsonl") for name in ("one", "two")}
    assert [[row["step"] for row in some] for some in rows.values()] == [[0, 1, 2]] * 2
    assert [row["held_out"] for row in rows["one"]] == [row["held_out"] for row in rows["two"]]
    assert first["stopped"] == second["stopped"] == one["stopped"]
    assert one["stopped"] == f"after step 2/3: after {[row['held_out'] for row in rows['one'][:2]]}"


def test_held_out_pairs_are_the_same_on_any_number_of_processes(ran):
    folder, _ = ran
    looks = [[[row[f"held_out_{name}"] for name in ("accuracy", "margin", "loss")]
              for row in metrics.read(folder / some / "dpo/metrics.jsonl") if "held_out_margin" in row]
             for some in ("one", "two")]
    assert len(looks[0]) == 2 and looks[0][0][:2] == [0.5, 0.0] != looks[0][1][:2]
    np.testing.assert_allclose(looks[1], looks[0], rtol=1e-4, atol=1e-6)


def test_every_process_gets_the_same_samples_in_the_same_order(ran):
    _, (one, first, second) = ran
    assert first["rl"] == second["rl"] == one["rl"] != one["sft"]  # sft draws none
    for stage in ("rollout", "reject"):  # these went on from what was there: not all of one's samples
        assert first[stage] == second[stage] != one[stage]


def test_stages_write_the_same_bytes_as_one_process_and_go_on_where_a_killed_one_stopped(ran):
    folder, (_, first, second) = ran
    for name in ("rollout/rollouts.jsonl", "reject/judgements.jsonl", "reject/kept.jsonl", "reject/rejection.json"):
        assert (folder / "two" / name).read_bytes() == (folder / "one" / name).read_bytes(), name
    assert len(list(records.read(folder / "two/rollout/rollouts.jsonl", Rollout))) == 12
    assert len(list(records.read(folder / "two/reject/kept.jsonl", Judgement))) > 3
    assert first["never right"] == second["never right"]


def test_a_mistake_that_one_process_finds_is_told_to_all(ran):
    _, seen = ran
    for each in seen:
        assert "rollouts.jsonl was made with policy='', now policy='other'" in each["refused"]


def test_each_host_reads_its_own_shard_and_all_is_read(ran):
    _, (one, first, second) = ran
    for what in ("sft measured", "sft rendered"):  # one epoch: each conversation is fed once
        assert one[what] == list(range(work.NUM_CONVERSATIONS))
        mine, theirs = set(first[what]), set(second[what])
        assert len(mine) > 10 and len(theirs) > 10
        assert not mine & theirs and mine | theirs == set(one[what]), what


def test_rows_that_both_hosts_hold_are_fed_once(ran):
    _, seen = ran
    assert [each["rows on both"] for each in seen] == [[[8], 1, 28.0]] * 3


def test_a_checkpoint_goes_on_under_another_number_of_processes(ran):
    folder, _ = ran
    whole = losses(folder / "one/sft")
    # One of eight began it, and two of four went on from step 2 until the second died in step 4.
    np.testing.assert_allclose(losses(folder / "begun by one"), whole[:3], rtol=1e-5)
    sft.run(work.sft_config(folder), folder / "begun by two")  # and the other way round
    np.testing.assert_allclose(losses(folder / "begun by two"), whole, rtol=1e-5)
    ends = [jax.tree.leaves(hf.load(folder / name / "export")[1]) for name in ("one/sft", "begun by two")]
    assert max(float(np.abs(a - b).max()) for a, b in zip(*ends, strict=True)) < 1e-5


@pytest.mark.slow
def test_adapters_and_a_policy_that_a_judge_rewards_are_the_same_on_two_processes(tmp_path):
    work.write_inputs(tmp_path)
    one = work.more(tmp_path, tmp_path / "one")
    statuses, _ = two(tmp_path, "more")
    assert statuses == [0, 0]
    first, second = (json.loads((tmp_path / f"seen.{number}.json").read_text()) for number in (0, 1))
    assert first == second and first["improve"] == one["improve"]  # the samples, of the judge's votes too
    for name, value in one["summary"].items():
        assert first["summary"][name] == pytest.approx(value, rel=1e-4, abs=1e-4), name
    assert one["summary"]["judge_score"] > 0 and one["summary"]["grad_norm"] > 0
    for name in ("adapted", "improve"):
        np.testing.assert_allclose(losses(tmp_path / "two" / name), losses(tmp_path / "one" / name), rtol=1e-4,
                                   atol=1e-6)
    for name in ("adapted/export", "improve/best"):
        ends = [jax.tree.leaves(hf.load(tmp_path / some / name)[1]) for some in ("one", "two")]
        assert max(float(np.abs(a - b).max()) for a, b in zip(*ends, strict=True)) < 1e-4, name
