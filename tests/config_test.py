"""Overrides of typed configs from the command line, and the main of a stage."""

import dataclasses
import json
import pathlib
from typing import Literal

import pytest

from libra_jax import config as configs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    learning_rate: float = 1e-3
    warmup_steps: int = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    name: str = "x"
    steps: int = 10
    shuffle: bool = False
    limit: int | None = None
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    optimizer: Inner = Inner()


@pytest.mark.parametrize(("path", "text", "value"), [
    ("name", "y=z", "y=z"), ("steps", "-3", -3), ("shuffle", "true", True), ("shuffle", "0", False),
    ("limit", "7", 7), ("limit", "none", None), ("kind", "b", "b"), ("sizes", "4, 5,6", (4, 5, 6)), ("sizes", "", ()),
    ("optimizer.learning_rate", "1e-6", 1e-6),
])
def test_every_kind_of_field_is_read_as_its_type(path, text, value):
    changed = configs.override(Config(), path, text)
    for name in path.split("."):
        changed = getattr(changed, name)
    assert changed == value and type(changed) is type(value)


@pytest.mark.parametrize(("path", "text", "message"), [
    ("stps", "3", "nearest is 'steps'"),
    ("optimizer.lerning_rate", "3", "nearest is 'learning_rate'"),
    ("learning_rate", "3", "nearest is 'optimizer.learning_rate'"),
    ("steps.x", "3", "plain value"),
    ("optimizer", "3", "learning_rate, warmup_steps"),
    ("steps", "1.5", "expected int"),
    ("shuffle", "maybe", "true or false"),
    ("kind", "c", "one of a, b"),
    ("optimizer.learning_rate", "fast", "expected float"),
])
def test_mistakes_name_the_field_and_the_remedy(path, text, message):
    with pytest.raises(configs.ConfigError, match=message):
        configs.override(Config(), path, text)


def test_parse_takes_both_spellings_and_leaves_the_rest():
    argv = ["--config.steps=3", "--workdir=w", "--config.name", "n", "--config.steps", "4"]
    config, rest = configs.parse(argv, Config())
    assert (config.steps, config.name, rest) == (4, "n", ["--workdir=w"])
    with pytest.raises(configs.ConfigError, match="needs a value"):
        configs.parse(["--config.steps"], Config())


def test_a_file_is_the_starting_point_wherever_it_stands(tmp_path):
    file = tmp_path / "c.py"
    file.write_text("from __future__ import annotations\nimport dataclasses\nimport pathlib\n\n"
                    "@dataclasses.dataclass(frozen=True)\nclass Own:\n    n: int = 4\n\n"
                    "def get_config():\n    return pathlib.PurePosixPath('x') if Own().n == 4 else None\n")
    assert configs.load(str(file), pathlib.PurePosixPath) == pathlib.PurePosixPath("x")
    with pytest.raises(configs.ConfigError, match="this stage takes"):
        configs.parse(["--config.steps=3", f"--config={file}"], Config())
    with pytest.raises(configs.ConfigError, match="no such file"):
        configs.load(str(tmp_path / "none.py"), Config)


def test_field_paths_and_json():
    assert configs.field_paths(Config())[-2:] == ["optimizer.learning_rate", "optimizer.warmup_steps"]
    assert json.loads(configs.to_json(Config()))["optimizer"] == {"learning_rate": 1e-3, "warmup_steps": 5}


def seen(config, workdir):
    (workdir / "seen").write_text(str(config.steps))


def failing(config, workdir):
    raise ValueError("the remedy")


def test_main_runs_and_records_its_config(tmp_path):
    assert configs.main(seen, Config(), ["x", "--config.steps=3", f"--workdir={tmp_path / 'w'}"]) == 0
    assert (tmp_path / "w" / "seen").read_text() == "3"
    assert json.loads((tmp_path / "w" / "run_config.json").read_text())["steps"] == 3


@pytest.mark.parametrize(("argv", "message"), [
    (["--config.stps=3", "--workdir=w"], "nearest is 'steps'"),
    ([], "--workdir is needed"),
    (["--workdri=w"], "workdri"),
    (["--workdir=w", "stray"], "unexpected argument 'stray'"),
])
def test_mistakes_end_in_one_line(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configs.main(seen, Config(), ["x", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_errors_of_the_run(tmp_path, capsys):
    argv = ["x", f"--workdir={tmp_path}"]
    assert configs.main(failing, Config(), argv) == 2
    assert capsys.readouterr().err == "error: the remedy\n"
    with pytest.raises(ValueError, match="remedy"):
        configs.main(failing, Config(), [*argv, "--debug"])


def test_a_missing_file_is_told_with_its_field_and_where_it_was_looked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["x", f"--workdir={tmp_path / 'w'}", "--config.name=none.jsonl"]
    assert configs.main(lambda config, workdir: open(config.name), Config(), argv) == 2
    assert capsys.readouterr().err == (f"error: --config.name=none.jsonl: no such file or directory (looked for in "
                                       f"{tmp_path})\n")
    assert configs.main(lambda config, workdir: open(tmp_path), Config(), argv) == 2  # no field's value
    assert capsys.readouterr().err == f"error: {tmp_path}: is a directory\n"


def test_help_shows_every_field_and_default(capsys):
    assert configs.main(seen, Config(), ["x", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--config.optimizer.learning_rate=0.001" in text and "--config.sizes=1,2" in text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    low: int = 1
    high: int = 2

    def __post_init__(self):
        if self.low >= self.high:
            raise ValueError(f"low={self.low}: expected less than high={self.high}")


@pytest.mark.parametrize("order", [1, -1])
def test_fields_that_depend_on_each_other_change_together(order):
    flags = ["--config.low=5", "--config.high=9"][::order]
    assert configs.parse(flags, Pair())[0] == Pair(low=5, high=9)
    with pytest.raises(configs.ConfigError, match=r"--config.low=5: low=5: expected less than high=2"):
        configs.parse(["--config.low=5"], Pair())


def _write(config, workdir):
    if config.low == 3:
        raise ValueError("3 is refused")
    if config.low == 4:
        open(workdir / "no" / "such")


def test_mistakes_end_in_one_line_and_a_refused_run_leaves_the_record(tmp_path, capsys):
    def main(*flags, workdir=tmp_path / "w"):
        return configs.main(_write, Pair(high=9), ["x", f"--workdir={workdir}", *flags])

    assert main() == 0
    assert main("--config.low=3") == 2 and "3 is refused" in capsys.readouterr().err
    assert json.loads((tmp_path / "w" / "run_config.json").read_text())["low"] == 1
    assert main("--config.low=4") == 2 and "no/such" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(workdir=tmp_path / "file") == 2 and "exists" in capsys.readouterr().err
    (tmp_path / "c.py").write_text("import nothing_of_this_name\n")
    assert main(f"--config={tmp_path / 'c.py'}") == 2
    assert "ModuleNotFoundError" in capsys.readouterr().err
