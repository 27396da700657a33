"""The log of a folder and its lock: what lands there, who is refused, and that a killed run leaves no lock."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys

import pytest

from libra_jax.command import log

HOLDER = """
import pathlib, sys, time
from libra_jax.command import log
with log.kept(pathlib.Path(sys.argv[1]), "libra sft --workdir=w"):
    print("held", flush=True)
    time.sleep(60)
"""


def lines(folder, name=log.NAME):
    return [line[20:] for line in (folder / name).read_text().splitlines()]


def test_all_that_is_said_is_kept_and_shown(tmp_path, capsys):
    with log.kept(tmp_path / "w", "libra x --workdir=w"):
        print("a table\nof two lines")
        print("a warning", file=sys.stderr)
        log.note("for the log alone")
        assert log.place() == str(tmp_path / "w" / "log.txt")
    print("afterwards")
    said = capsys.readouterr()
    assert said.out == "a table\nof two lines\nafterwards\n" and said.err == "a warning\n"
    found = lines(tmp_path / "w")
    assert found[0].startswith(f"--- libra x --workdir=w (process {os.getpid()} on ")
    assert found[1:] == ["a table", "of two lines", "a warning", "for the log alone"]
    assert log.place() == ""


def test_warnings_of_loggers_are_kept_too(tmp_path):
    with log.kept(tmp_path, "libra x"):
        logging.getLogger("orbax").warning("slow storage")
    assert "slow storage" in lines(tmp_path)


def test_a_progress_that_is_written_over_is_kept_now_and_then(tmp_path, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    with log.kept(tmp_path, "libra x"):
        for step in range(8):
            now[0] += 10
            print(f"\rstep {step}\x1b[K", end="", file=sys.stderr)
        print(file=sys.stderr)
    assert lines(tmp_path)[1:] == ["step 2", "step 5", "step 7"]
    assert capsys.readouterr().err.count("\r") == 8


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_log_on_a_full_disk_stops_nothing(tmp_path, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    with log.kept(tmp_path, "libra x"):
        print("goes on")
    print("and after it")
    assert capsys.readouterr().out == "goes on\nand after it\n"


@pytest.fixture
def holder(tmp_path):
    """Another process that works in tmp_path/w."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "w"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_in_use_is_refused_until_its_run_is_gone_however_it_went(holder, tmp_path):
    before = (tmp_path / "w/log.txt").stat().st_mtime_ns
    who = log.holder(tmp_path / "w")
    assert who.startswith(f"libra sft --workdir=w (process {holder.pid} on ") and ", since 20" in who
    with pytest.raises(ValueError, match=rf"w is in use by libra sft .*process {holder.pid}.*another --workdir"), \
            log.kept(tmp_path / "w", "libra rl"):
        pytest.fail("two runs in one folder")
    assert (tmp_path / "w/log.txt").stat().st_mtime_ns == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert log.holder(tmp_path / "w") == ""
    with log.kept(tmp_path / "w", "libra rl"):
        assert "libra rl" in lines(tmp_path / "w")[-1]


def test_the_other_hosts_of_a_run_have_logs_of_their_own_and_no_lock(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(log, "process", lambda: 3)
    with log.kept(tmp_path / "w", "libra --distributed sft"):
        print("from host 3")
    assert "from host 3" in lines(tmp_path / "w", "log.3.txt")
    assert log.holder(tmp_path / "none") == ""
