"""Overrides of typed configs from the command line."""

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
    ("stps", "3", "nearest is --config.steps"),
    ("optimizer.lerning_rate", "3", "nearest is --config.optimizer.learning_rate"),
    ("learning_rate", "3", "nearest is --config.optimizer.learning_rate"),
    ("steps.x", "3", "plain value"),
    ("optimizer", "3", "learning_rate, warmup_steps"),
    ("steps", "1.5", "expected a whole number"),
    ("shuffle", "maybe", "true or false"),
    ("kind", "c", "one of a, b"),
    ("optimizer.learning_rate", "fast", "expected a number"),
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
