"""The main of a stage: what it runs, records and says, and its exit status."""

from __future__ import annotations

import dataclasses
import errno
import json
from typing import Annotated, Literal

import pytest

from libra_jax import config as configs
from libra_jax.command import entry
from libra_jax.records import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """Attributes:
    learning_rate: of each step,
      at its height.
    warmup_steps: until then.
    """

    learning_rate: float = 1e-3
    warmup_steps: int = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Fields of all kinds.

    Attributes:
      name, kind: words.
      steps: how many.
      problems: what is asked.
      optimizer: how it learns.
    """

    name: str = "x"
    steps: int = 10
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    problems: Annotated[str, configs.File(Problem)] = ""
    optimizer: Inner = Inner()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    low: int = 1
    high: int = 2


def seen(config, workdir):
    (workdir / "seen").write_text(str(config.steps))


def failing(config, workdir):
    raise ValueError("the remedy")


def test_main_runs_and_records_its_config(tmp_path):
    assert entry.main(seen, Config(), ["x", "--config.steps=3", f"--workdir={tmp_path / 'w'}"]) == 0
    assert (tmp_path / "w" / "seen").read_text() == "3"
    assert json.loads((tmp_path / "w" / "run_config.json").read_text())["steps"] == 3


@pytest.mark.parametrize(("argv", "message"), [
    (["--config.stps=3", "--workdir=w"], "nearest is --config.steps"),
    ([], "--workdir is needed"),
    (["--workdri=w"], "workdri"),
    (["--workdir=w", "stray"], "unexpected argument 'stray'"),
    (["--workdir=w", "--steps=3"], "--steps is a field; give it as --config.steps=3"),
    (["--workdir=w", "--optimizer.warmup_steps", "3"], "give it as --config.optimizer.warmup_steps=VALUE"),
])
def test_mistakes_end_in_one_line(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert entry.main(seen, Config(), ["x", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_told_in_a_line_and_its_traceback_is_in_the_log(tmp_path, capsys):
    argv = ["x", f"--workdir={tmp_path}"]
    assert entry.main(failing, Config(), argv) == 2
    assert capsys.readouterr().err == "error: the remedy\n"
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" in log and "ValueError: the remedy" in log and "ended with status 2" in log
    assert entry.main(failing, Config(), [*argv, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_shows_its_traceback_and_where_it_is_kept(tmp_path, capsys):
    def broken(config, workdir):
        return json.loads("{")  # a ValueError that a library raises

    for run in (broken, lambda config, workdir: {}["x"]):
        assert entry.main(run, Config(), ["x", f"--workdir={tmp_path}"]) == 1
        said = capsys.readouterr().err
        assert "Traceback" in said and f"in {tmp_path / 'log.txt'} too" in said
        assert said.split("\n")[-3] in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(("raised", "status", "said"), [
    (KeyboardInterrupt(), 130, "stopped by Ctrl-C; run the same command to go on\n"), (SystemExit(143), 143, ""),
    (OSError(errno.ENOSPC, "No space left on device"), 2, "error: no space left on device; make room on that disk"),
    (MemoryError(), 2, "out of the host's memory"),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), 2, "`libra plan` says what would"),
])
def test_how_a_run_ends_is_its_status(raised, status, said, tmp_path, capsys):
    def ending(config, workdir):
        raise raised

    assert entry.main(ending, Config(), ["x", f"--workdir={tmp_path}"]) == status
    error = capsys.readouterr().err
    assert error.startswith(said) or said in error
    assert "Traceback" not in error and f"ended with status {status}" in (tmp_path / "log.txt").read_text()


def test_a_reader_of_the_output_that_goes_away_is_left_to_the_command(tmp_path):
    def unheard(config, workdir):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        entry.main(unheard, Config(), ["x", f"--workdir={tmp_path}"])
    assert "BrokenPipeError" in (tmp_path / "log.txt").read_text()


def test_a_missing_file_is_told_with_its_field_and_where_it_was_looked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["x", f"--workdir={tmp_path / 'w'}", "--config.name=none.jsonl"]
    assert entry.main(lambda config, workdir: open(config.name), Config(), argv) == 2
    assert capsys.readouterr().err == (f"error: --config.name=none.jsonl: no such file or directory (looked for in "
                                       f"{tmp_path})\n")
    assert entry.main(lambda config, workdir: open(tmp_path), Config(), argv) == 2  # no field's value
    assert capsys.readouterr().err == f"error: {tmp_path}: is a directory\n"


def test_help_shows_every_field_and_default(capsys):
    assert entry.main(seen, Config(), ["x", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--config.optimizer.learning_rate=0.001" in text and "--config.sizes=1,2" in text


def _write(config, workdir):
    if config.low == 3:
        raise ValueError("3 is refused")
    if config.low == 4:
        open(workdir / "no" / "such")


def test_mistakes_end_in_one_line_and_a_refused_run_leaves_the_record(tmp_path, capsys):
    def main(*flags, workdir=tmp_path / "w"):
        return entry.main(_write, Pair(high=9), ["x", f"--workdir={workdir}", *flags])

    assert main() == 0
    assert main("--config.low=3") == 2 and "3 is refused" in capsys.readouterr().err
    assert json.loads((tmp_path / "w" / "run_config.json").read_text())["low"] == 1
    assert main("--config.low=4") == 2 and "no/such" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(workdir=tmp_path / "file") == 2 and "exists" in capsys.readouterr().err
    (tmp_path / "c.py").write_text("import nothing_of_this_name\n")
    assert main(f"--config={tmp_path / 'c.py'}") == 2
    assert "ModuleNotFoundError" in capsys.readouterr().err
