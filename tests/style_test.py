"""Lines, imports and docstrings are as pyproject.toml says."""

import pathlib
import subprocess
import sys


def test_the_linter_finds_nothing():
    root = pathlib.Path(__file__).parents[1]
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
