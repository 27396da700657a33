"""SIGTERM in a run: it saves at once, ends with status 143, and goes on to the same bytes."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from libra_jax.train import checkpoint, preemption


def _same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, toy.run(folder, num_steps=8, save_every=0)


def _terminated(toy, workdir, at, where, **options):
    """A run that gets a SIGTERM at step `at`, while it draws or in the step."""
    def draw(number, params):
        if number == at and where == "drawing":
            os.kill(os.getpid(), signal.SIGTERM)
            while True:  # drawing takes its time, and is left in the midst
                preemption.look()
        return toy.batch_at(number, params)

    def mark(place):
        nonlocal seen
        seen += place == 2
        if place == 2 and where == "in the step" and seen == at + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    seen = 0
    with pytest.raises(preemption.Preempted) as stopped:
        toy.run(workdir, num_steps=8, batch_at=draw, mark=mark, **options)
    return stopped.value


@pytest.mark.parametrize("where, at, done, save_every", [
    ("drawing", 4, 4, 0), ("drawing", 0, 0, 0), ("in the step", 4, 5, 0), ("in the step", 5, 6, 3),
    ("in the step", 7, 8, 3), ("drawing", 6, 6, 3),
])
def test_it_saves_and_goes_on_bit_for_bit(toy, tmp_path, whole, capfd, where, at, done, save_every):
    before = signal.getsignal(signal.SIGTERM)
    stopped = _terminated(toy, tmp_path, at, where, save_every=save_every)
    assert isinstance(stopped, SystemExit) and stopped.code == 143
    said = capfd.readouterr().err
    assert f"stopped by SIGTERM after step {done}/8" in said and "run the same command to go on" in said
    assert signal.getsignal(signal.SIGTERM) == before
    assert checkpoint.fault(tmp_path / "checkpoints" / str(done)) == ""
    assert _same(toy.run(tmp_path, num_steps=8, save_every=save_every), whole[1])
    assert f"going on from step {done}," in capfd.readouterr().err
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole[0] / "metrics.jsonl").read_bytes()


def test_a_second_signal_does_not_disturb_the_saving(toy, tmp_path, whole, monkeypatch):
    seal = checkpoint.seal

    def again(folder):
        os.kill(os.getpid(), signal.SIGTERM)
        seal(folder)

    monkeypatch.setattr(checkpoint, "seal", again)
    _terminated(toy, tmp_path, 4, "drawing", save_every=0)
    assert checkpoint.fault(tmp_path / "checkpoints" / "4") == ""


def test_a_signal_is_never_raised_where_it_arrives():
    """In the midst of TensorFlow's code an exception would break the heap."""
    preemption.look()
    with preemption.Notice() as outer, preemption.Notice() as inner:
        os.kill(os.getpid(), signal.SIGTERM)
        assert inner.asked and not outer.asked
        with pytest.raises(preemption.Preempted):
            preemption.look()
    preemption.look()


def test_outside_the_main_thread_no_handler_is_set_and_the_run_is_the_same(toy, tmp_path, whole):
    before, ends = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=lambda: ends.append(toy.run(tmp_path, num_steps=8, save_every=0)))
    thread.start()
    thread.join()
    assert _same(ends[0], whole[1]) and signal.getsignal(signal.SIGTERM) == before


def test_with_several_processes_the_word_of_one_stops_all_and_drawing_is_not_left(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    heard = []
    monkeypatch.setattr(preemption.multihost_utils, "process_allgather",
                        lambda mine: heard.append(int(mine)) or np.array([mine, 1]))
    with preemption.Notice() as notice:
        assert notice.agreed() and heard == [0], "another process was asked"
        os.kill(os.getpid(), signal.SIGTERM)
        preemption.look()
        assert notice.asked and notice.agreed() and heard == [0, 1]


PROCESS = """
import os, signal, sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[1]))
import toy_runs

def draw(number, params):
    if number == int(sys.argv[4]) and jax.process_index() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return toy_runs.batch_at(number, params)

print("step", toy_runs.run(sys.argv[3], num_steps=8, save_every=3, batch_at=draw, devices=2).step)
"""


def _two_processes(workdir, asked_at):
    """(status, stdout, stderr) of each of two processes, the second of which gets a SIGTERM at a step."""
    here = pathlib.Path(__file__).parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    paths = os.pathsep.join([str(here), str(here.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": paths, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    both = [subprocess.Popen([sys.executable, "-c", PROCESS, str(index), address, str(workdir), str(asked_at)], env=env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for index in range(2)]
    try:
        said = [process.communicate(timeout=240) for process in both]
    finally:
        for process in both:
            process.kill()
    return [(process.returncode, *words) for process, words in zip(both, said, strict=True)]


@pytest.mark.slow
def test_two_processes_stop_at_one_step_and_agree_on_the_checkpoint_that_is_whole(tmp_path):
    for status, out, err in _two_processes(tmp_path, 4):
        assert status == 0 and "stopped by SIGTERM after step 5/8" in err and "step 8" not in out, err
    before = (tmp_path / "metrics.jsonl").read_bytes()
    assert before.count(b"\n") == 5
    newest = tmp_path / "checkpoints" / "5"
    os.truncate(max(newest.rglob("ocdbt.process_*/d/*"), key=lambda path: path.stat().st_size), 50)
    ends = _two_processes(tmp_path, 99)
    assert all(status == 0 and "step 8" in out for status, out, _ in ends), ends
    assert f"{newest} is refused" in ends[0][2] and "going on from step 3" in ends[0][2]
    assert (tmp_path / "metrics.jsonl").read_bytes().startswith(before), "steps done again gave other numbers"
