"""Completion: what the answers are, that they miss no field, and that a real bash completes by them."""

from __future__ import annotations

import importlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import typing

import pytest

from libra_jax import config as configs
from libra_jax.command import completion
from libra_jax.stages import cli

STAGES = list(cli.stages())


def answers(line):
    return completion.answers(line.split(" ")[1:], STAGES)


@pytest.mark.parametrize(("line", "found"), [
    ("libra ju", ["judge"]),
    ("libra --v", ["--version"]),
    ("libra --completion=z", ["--completion=zsh"]),
    ("libra --distributed ju", ["judge"]),
    ("libra judge --dr", ["--dry_run"]),
    ("libra judge --workdir=ru", [completion.FOLDERS]),
    ("libra judge --config=co", [completion.FILES]),
    ("libra judge --config.sa", ["--config.sampling."]),
    ("libra judge --config.sampling.to", ["--config.sampling.top_k=", "--config.sampling.top_p="]),
    ("libra judge --config.thinking=f", ["--config.thinking=false"]),
    ("libra judge --config.compute_dtype b", ["bfloat16"]),
    ("libra judge --config.examples=be", [completion.FILES]),
    ("libra judge --config.checkpoint=", [completion.FOLDERS]),
    ("libra curate --config.problems=a.jsonl,b", [completion.FILES]),
    ("libra plan --config.rl.train.remat=o", ["--config.rl.train.remat=offload"]),  # a Literal with a name of its own
    ("libra demo --config.vo", ["--config.votes="]),  # whose Config is another module's class
    ("libra bench com", ["compare", completion.FILES]),
    ("libra bench compare runs/a", [completion.FILES]),
    ("libra nothing --config.x", []),
    ("libra judge --config.nothing=x", []),
])
def test_what_may_stand_there(line, found):
    assert answers(line) == found


@pytest.mark.parametrize("stage", STAGES)
def test_the_fields_read_from_the_source_are_those_of_the_config(stage):
    default = importlib.import_module(f"libra_jax.stages.{stage}").Config()
    found = completion.fields(stage)
    assert list(found) == configs.field_paths(default)
    for path, field in found.items():
        group, _, name = path.rpartition(".")
        hint = typing.get_type_hints(type(configs.value(default, group) if group else default))[name]
        choices = ("true", "false") if hint is bool else ()
        if typing.get_origin(hint) is typing.Literal:
            choices = typing.get_args(hint)
        assert field.choices == choices, path
        marks = {configs.File: completion.FILES, configs.Checkpoint: completion.FOLDERS}
        assert field.files == marks.get(type(configs.mark(default, path)), ""), path


def test_an_unknown_shell_is_told_the_known_ones(capsys):
    assert cli.main(["libra", "--completion=fish"]) == 2
    assert "--completion=fish: expected bash or zsh" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_understands_its_script():
    assert subprocess.run(["zsh", "-n"], input=completion.script("zsh"), text=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """Types a line and a TAB into an interactive bash, in a folder with a few files; the words that libra then got."""
    folder = tmp_path_factory.mktemp("bash")
    (folder / "bench.jsonl").write_text("{}\n")
    (folder / "runs").mkdir()
    (folder / "Qwen3 1.7B").mkdir()
    libra = folder / "libra"
    libra.write_text(f'#!/bin/sh\ncase "$1" in --comp*) exec {sys.executable} -m libra_jax.stages.cli "$@" ;; esac\n'
                     'printf "<%s>" "$@"; echo " GOT"\n')
    libra.chmod(0o755)
    terminal, inner = pty.openpty()
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ ", "COLUMNS": "500",
                                "INPUTRC": "/dev/null", "PYTHONPATH": os.pathsep.join(sys.path), "HISTFILE": ""}
    shell = subprocess.Popen(["bash", "--norc", "--noprofile", "-i"], cwd=folder, env=environment, stdin=inner,
                             stdout=inner, stderr=inner, start_new_session=True)
    os.close(inner)

    def read(until):
        seen, end = "", time.monotonic() + 20
        while not re.search(until, seen):
            assert time.monotonic() < end, seen
            if select.select([terminal], [], [], 1)[0]:
                seen += os.read(terminal, 65536).decode()
        return seen

    def line(text):
        os.write(terminal, text.encode() + b"\t")
        os.write(terminal, b"\n")
        return re.findall(r"<(.*?)>", read(r"> GOT\r?\n").split("\n", 1)[1])

    os.write(terminal, b'eval "$(libra --completion bash)"; stty cols 500; echo rea""dy\n')
    read(r"\nready|\rready")
    yield line
    os.write(terminal, b"\nexit\n")
    os.close(terminal)
    shell.wait()


@pytest.mark.parametrize(("line", "words"), [
    ("libra ju", ["judge"]),
    ("libra judge --dry", ["judge", "--dry_run"]),
    ("libra judge --config.exam", ["judge", "--config.examples="]),
    ("libra judge --config.sampl", ["judge", "--config.sampling."]),
    ("libra judge --config.sampling.temp", ["judge", "--config.sampling.temperature="]),
    ("libra judge --config.compute_dtype=bf", ["judge", "--config.compute_dtype=bfloat16"]),
    ("libra judge --config.examples=be", ["judge", "--config.examples=bench.jsonl"]),
    ("libra judge --config.examples=", ["judge", "--config.examples="]),  # two may stand there: nothing is chosen
    ("libra judge --config.checkpoint=Qw", ["judge", "--config.checkpoint=Qwen3 1.7B/"]),
    ("libra curate --config.problems=a.jsonl,be", ["curate", "--config.problems=a.jsonl,bench.jsonl"]),
    ("libra judge --workdir=ru", ["judge", "--workdir=runs/"]),
    ("libra judge --workdir=runs --config.thinking=f", ["judge", "--workdir=runs", "--config.thinking=false"]),
])
def test_a_real_bash_completes(typed, line, words):
    assert typed(line) == words
