"""The help pages: every stage's purpose, examples and fields, each with its sentence, in a width that can be read."""

from __future__ import annotations

import dataclasses
import importlib
import re
import shlex
from typing import Annotated, Literal

import pytest

from libra_jax import config as configs
from libra_jax.command import page
from libra_jax.records import Problem
from libra_jax.stages import cli


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """Attributes:
    rate: of each step,
      at its height.
    """

    rate: float = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Fields of all kinds.

    Attributes:
      name, kind: words.
      sizes: how large.
      problems: what is asked.
      model: who answers.
      limit: at most so many.
      optimizer: how it learns.

    Not of the attributes: this.
    """

    name: str = "x"
    kind: Literal["", "b"] = "b"
    sizes: tuple[int, ...] = (1, 2)
    problems: Annotated[tuple[str, ...], configs.File(Problem, folder=True)] = ()
    model: Annotated[str, configs.Checkpoint()] = ""
    limit: int | None = None
    optimizer: Inner = Inner()


def test_a_page_in_full():
    text = page.text("x", "Does x.\n\n    libra x --workdir=DIR\n", Config())
    assert text.startswith("usage: libra x --workdir=DIR [--config=FILE] [--config.FIELD=VALUE ...]\n\n"
                           "Does x.\n\n    libra x --workdir=DIR\n\nflags:\n  --workdir=DIR ")
    assert text.split("fields, with their defaults:\n")[1].split("\n\nexit status")[0] == """\
  --config.name=x                             text
      words.
  --config.kind=b                             one of "", b
      words.
  --config.sizes=1,2                          whole numbers
      how large.
  --config.problems=                          files of Problem, or folders
      what is asked.
  --config.model=                             folder of a checkpoint
      who answers.
  --config.limit=None                         whole number or none
      at most so many.

  optimizer: how it learns.
  --config.optimizer.rate=0.001               number
      of each step, at its height."""
    for status in ("0    done", "2    a mistake", "1    a bug", "143  stopped by SIGTERM", "130 by Ctrl-C"):
        assert status in text


@pytest.mark.parametrize("stage", cli.stages())
def test_the_page_of_every_stage(stage):
    module = importlib.import_module(f"libra_jax.stages.{stage}")
    text = page.text(stage, module.__doc__, module.Config())
    assert max(map(len, text.splitlines())) <= 120
    examples = re.findall(rf"^ +libra {stage} .*--workdir", text, re.MULTILINE)
    assert examples, "tests/readme_test.py reads each of them as the stage itself would"
    fields = text.split("fields, with their defaults:\n")[1].split("\nexit status")[0]
    for path in configs.field_paths(module.Config()):
        shown = re.search(rf"^  --config\.{re.escape(path)}=.*\n((?: {{40,}}.*\n)*)      \S", fields, re.MULTILINE)
        assert shown, f"{path} has no sentence; give it one in the Attributes of its config's docstring"


@pytest.mark.parametrize("stage", cli.stages())
def test_help_costs_nothing_but_the_page(stage, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(shlex.split(f"libra {stage} --help")) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"usage: libra {stage} ") and not said.err and not list(tmp_path.iterdir())
