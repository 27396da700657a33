"""Every shell script of the checkout: executable, understood by bash, and clean to shellcheck."""

import os
import pathlib
import shutil
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_and_executable(shell, script):
    assert os.access(script, os.X_OK) != (script.name == "machine.sh")  # which is only read by another
    shell("bash", "-n", script)
    assert all(len(line) <= 120 for line in script.read_text(encoding="utf-8").splitlines())


def test_shellcheck_finds_nothing(shell):
    beside = shutil.which("shellcheck", path=pathlib.Path(sys.executable).parent)
    shellcheck = beside or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("there is no shellcheck; the extra `dev` brings it")
    shell(shellcheck, *SCRIPTS)
    assert not any("shellcheck disable" in script.read_text(encoding="utf-8") for script in SCRIPTS)
