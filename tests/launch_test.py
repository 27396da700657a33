"""The launch scripts: what they would run, what they install and when, and how they fail."""

import importlib
import os
import pathlib
import shlex
import shutil
import subprocess

import pytest

from libra_jax import config as configs

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))


def run(*command, status=0, **environment):
    """Runs a command and returns (stdout, stderr); fails when it ends with another status."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False,
                          env=os.environ | environment)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda path: path.name)
def test_scripts_are_sound_and_executable(script):
    assert os.access(script, os.X_OK)
    run("bash", "-n", script)


# local.sh: in a copy of the checkout's outline, with a Python that only writes down what it was asked for.

FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
  *version_info*) exit 0 ;;
  "-m venv .venv") [ -z "${NO_ENSUREPIP:-}" ] || { mkdir -p .venv; exit 1; }
    mkdir -p .venv/bin; cp "$0" .venv/bin/python; cp "$0" .venv/bin/libra ;;
  "-m pip --version") [ -z "${NO_PIP:-}" ] || exit 1 ;;
  *) echo "$(basename "$0") $* [$JAX_PLATFORMS]" >>calls; [ -z "${FAIL_INSTALL:-}" ] || exit 1 ;;
esac
"""


@pytest.fixture
def outline(tmp_path):
    """A folder with launch/local.sh, setup.py and fake-python."""
    (tmp_path / "launch").mkdir()
    shutil.copy(ROOT / "launch/local.sh", tmp_path / "launch")
    shutil.copy(ROOT / "setup.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "fake-python").write_text(FAKE_PYTHON)
    (tmp_path / "fake-python").chmod(0o755)
    return tmp_path


def local(outline, *flags, status=0, **environment):
    """Runs local.sh; returns what the fake Python was asked since, and stderr."""
    (outline / "calls").write_text("")
    _, error = run(outline / "launch/local.sh", *flags, status=status, PYTHON=str(outline / "fake-python"),
                   JAX_PLATFORMS="", **environment)
    return (outline / "calls").read_text().splitlines(), error


def test_the_second_run_installs_nothing_and_the_flags_go_through(outline):
    calls, _ = local(outline, "test", "-k", "x")
    assert len(calls) == 2 and "pip install" in calls[0] and "-e .[dev]" in calls[0]
    assert calls[1] == "python -m pytest -q -k x [cpu]"
    assert [call.split(" [")[0] for call in local(outline, "test")[0]] == ["python -m pytest -q"]
    calls, _ = local(outline, "demo", "--config.seed=3")  # the tests' environment serves the demo too
    assert calls == ["libra demo --workdir=runs/demo --config.seed=3 [cpu]"]


def test_a_changed_setup_or_a_failed_install_is_installed_again(outline):
    local(outline, "demo", status=1, FAIL_INSTALL="yes")
    calls, _ = local(outline, "demo")
    assert "pip install" in calls[0] and "[dev]" not in calls[0]
    with (outline / "setup.py").open("a") as out:
        out.write("# another pin\n")
    assert "pip install" in local(outline, "demo")[0][0]
    assert "-e .[dev]" in local(outline, "test")[0][0]


def test_a_python_without_ensurepip_names_the_package(outline):
    for _ in range(2):  # the half-made environment does not stand in the way the second time
        calls, error = local(outline, "demo", status=2, NO_ENSUREPIP="yes")
        assert calls == [] and "python3-venv" in error and not (outline / ".venv").exists()
    assert "pip install" in local(outline, "demo")[0][0]


def test_an_environment_without_pip_is_named(outline):
    calls, error = local(outline, "demo", status=2, NO_PIP="yes")
    assert calls == [] and "remove the folder .venv" in error


def test_another_job_is_refused():
    assert "usage: launch/local.sh demo|test" in run(ROOT / "launch/local.sh", "dmeo", status=2)[1]


# tpu_vm.sh


def tpu(*flags, status=0):
    return run(ROOT / "launch/tpu_vm.sh", *flags, "--dry_run", status=status)


def test_a_dry_run_prints_gcloud_commands_and_runs_none(tmp_path):
    (tmp_path / "gcloud").write_text("#!/bin/sh\ntouch $0.called\n")
    (tmp_path / "gcloud").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    where = ["--name=n", "--zone=z", "--project=p"]
    for action, extra in {"create": ["--accelerator=v6e-8"], "install": [], "delete": [], "logs": []}.items():
        out, _ = run(ROOT / "launch/tpu_vm.sh", action, *where, *extra, "--dry_run", PATH=path)
        assert "gcloud compute tpus tpu-vm" in out and "--zone=z --project=p" in out
    assert not (tmp_path / "gcloud.called").exists()
    run(ROOT / "launch/tpu_vm.sh", "delete", *where, PATH=path)
    assert (tmp_path / "gcloud.called").exists()


@pytest.mark.parametrize("accelerator, runtime", [("v6e-8", "v2-alpha-tpuv6e"), ("v5litepod-16", "v2-alpha-tpuv5-lite"),
                                                  ("v5p-32", "v2-alpha-tpuv5"), ("v4-8", "tpu-ubuntu2204-base")])
def test_create_knows_the_runtime_of_an_accelerator(accelerator, runtime):
    out, _ = tpu("create", "--name=n", "--zone=z", f"--accelerator={accelerator}", "--spot")
    assert shlex.split(out)[4:] == ["create", "n", "--zone=z", f"--accelerator-type={accelerator}",
                                    f"--version={runtime}", "--spot"]


def test_run_starts_the_stage_on_every_worker_and_keeps_its_words_apart():
    out, _ = run(ROOT / "launch/tpu_vm.sh", "run", "--name=n", "--zone=z", "--dry_run", "--", "sft", "--workdir=/a b")
    words = shlex.split(out)
    assert "--worker=all" in words
    command = words[-1].removeprefix("--command=")
    assert command.startswith("cd libra_jax && ")
    assert shlex.split(command)[3:] == [".venv/bin/libra", "--distributed", "sft", "--workdir=/a b"]


@pytest.mark.parametrize("flags, message", [
    (["crate"], "expected create, install"), (["create", "--name=n", "--zone=z"], "--accelerator is needed"),
    (["create", "--name=n", "--zone=z", "--accelerator=v9-8"], "no runtime is known"), (["delete"], "--name is needed"),
    (["run", "--name=n", "--zone=z"], "run needs a stage"), (["logs", "--nmae=n"], "'--nmae=n' is not known"),
])
def test_mistakes_are_named_before_anything_runs(flags, message):
    out, error = tpu(*flags, status=2)
    assert message in error and out == ""


# pipeline.sh


def test_every_stage_of_the_pipeline_understands_its_flags():
    out, _ = run(ROOT / "launch/pipeline.sh", "--checkpoint=C", "--problems=p.jsonl", "--workdir=W a",
                 "--policies=A,B", "--with=rl:--config.groups=64", "--dry_run")
    lines = [shlex.split(line) for line in out.splitlines()]
    stages = [words[1] for words in lines]
    assert stages == ["rollout", "rollout", "verify", "curate", "judge", "reject", "sft", "judge", "rl", "judge",
                      "bench"]
    made = {}
    for words in lines:
        default = importlib.import_module(f"libra_jax.stages.{words[1]}").Config()
        made[words[1]], rest = configs.parse(words[2:], default)
        assert len(rest) == 1 and rest[0].startswith("--workdir=W a/")
    assert made["rl"].groups == 64 and made["rl"].checkpoint == "W a/sft/export"
    assert made["bench"].judgements == tuple(f"W a/judge/{name}/judgements.jsonl" for name in ("base", "sft", "rl"))


def test_the_pipeline_stops_at_the_first_stage_that_fails(tmp_path):
    (tmp_path / "libra").write_text('#!/bin/sh\necho $1 >>"$0.calls"\n[ $1 != verify ]\n')
    (tmp_path / "libra").chmod(0o755)
    for name in ("A", "B"):
        (tmp_path / f"W/rollout/{'AB'.index(name)}").mkdir(parents=True)
        (tmp_path / f"W/rollout/{'AB'.index(name)}/rollouts.jsonl").write_text(f"{name}\n")
    run(ROOT / "launch/pipeline.sh", "--checkpoint=C", "--problems=p", f"--workdir={tmp_path / 'W'}", "--policies=A,B",
        status=1, LIBRA=str(tmp_path / "libra"))
    assert (tmp_path / "libra.calls").read_text().split() == ["rollout", "rollout", "verify"]
    assert (tmp_path / "W/rollout/all.jsonl").read_text() == "A\nB\n"


@pytest.mark.parametrize("flags, message", [
    (["--chekpoint=C"], "'--chekpoint=C' is not known"), (["--checkpoint=C"], "--problems is needed"),
    (["--checkpoint=C", "--problems=p", "--workdir=W", "--policies=x/A,y/A"], "two folders are named 'A'"),
])
def test_mistakes_of_the_pipeline_are_named(flags, message):
    assert message in run(ROOT / "launch/pipeline.sh", *flags, "--dry_run", status=2)[1]
