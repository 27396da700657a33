"""launch/local.sh: what it installs and when, and how it fails.

It runs in a copy of the checkout's outline, with a Python that only writes down what it was asked for.
"""

import pathlib
import shutil

import pytest

ROOT = pathlib.Path(__file__).parents[2]

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


@pytest.fixture
def local(shell, outline):
    """A function that runs local.sh and returns what the fake Python was asked since, and stderr."""
    def run(*flags, status=0, **environment):
        (outline / "calls").write_text("")
        _, error = shell(outline / "launch/local.sh", *flags, status=status, PYTHON=str(outline / "fake-python"),
                         JAX_PLATFORMS="", **environment)
        return (outline / "calls").read_text().splitlines(), error
    return run


def test_the_second_run_installs_nothing_and_the_flags_go_through(local):
    calls, _ = local("test", "-k", "x")
    assert len(calls) == 2 and "pip install" in calls[0] and "-e .[dev]" in calls[0]
    assert calls[1] == "python -m pytest -q -n auto --maxprocesses=4 -k x [cpu]"
    assert [call.split(" [")[0] for call in local("test")[0]] == [
        "python -m pytest -q -n auto --maxprocesses=4"]
    calls, _ = local("demo", "--config.seed=3")  # the tests' environment serves the demo too
    assert calls == ["libra demo --workdir=runs/demo --config.seed=3 [cpu]"]


def test_a_changed_setup_or_a_failed_install_is_installed_again(local, outline):
    local("demo", status=1, FAIL_INSTALL="yes")
    calls, _ = local("demo")
    assert "pip install" in calls[0] and "[dev]" not in calls[0]
    with (outline / "setup.py").open("a") as out:
        out.write("# another pin\n")
    assert "pip install" in local("demo")[0][0]
    assert "-e .[dev]" in local("test")[0][0]


def test_a_python_without_ensurepip_names_the_package(local, outline):
    for _ in range(2):  # the half-made environment does not stand in the way the second time
        calls, error = local("demo", status=2, NO_ENSUREPIP="yes")
        assert calls == [] and "python3-venv" in error and not (outline / ".venv").exists()
    assert "pip install" in local("demo")[0][0]


def test_an_environment_without_pip_is_named(local):
    calls, error = local("demo", status=2, NO_PIP="yes")
    assert calls == [] and "remove the folder .venv" in error


def test_another_job_is_refused(shell):
    assert "usage: launch/local.sh demo|test" in shell(ROOT / "launch/local.sh", "dmeo", status=2)[1]
