"""Types are as the checker of pyproject.toml wants them, and nothing in the package tells one to look away."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LOOKS_AWAY = re.compile(r"#\s*(type:\s*ignore|(pyre|pyrefly|pyright|basedpyright|mypy|ty)\s*:)|\bno_type_check\b")


def check(root: pathlib.Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pyrefly", "check", "--output-format=min-text", "--summary=none",
               f"--python-interpreter-path={sys.executable}"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_the_checker_finds_nothing():
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    """A package of the same name and rules, with the module that its tests write."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "libra_jax").mkdir()
    (tmp_path / "libra_jax" / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize("line, kind", [
    ("def f(a: int) -> str:\n    return a", "bad-return"),
    ("def f(a: int) -> str:\n    return a  # type: ignore", "bad-return"),
    ("def f(a: int) -> str:\n    return a  # pyrefly: ignore", "bad-return"),
    ("def f(a: int | None):\n    return a + 1", "unsupported-operation"),
    ("def f():\n    return 'a'.nothing", "missing-attribute"),
    ("import re\n\ndef f(text: str) -> str:\n    return re.match('a', text)[0]", "unsupported-operation"),
    ("import numpy as np\n\nvalue: str = np.zeros(3)", "bad-assignment"),
])
def test_a_planted_mistake_is_found_whatever_a_comment_says(copy, line, kind):
    (copy / "libra_jax" / "planted.py").write_text(line + "\n")
    done = check(copy)
    assert done.returncode == 1 and f"[{kind}]" in done.stdout and "planted.py" in done.stdout, done.stdout


def test_a_sound_module_passes(copy):
    (copy / "libra_jax" / "sound.py").write_text("def f(a: int) -> str:\n    return str(a)\n")
    assert check(copy).returncode == 0


def test_nothing_tells_a_checker_to_look_away():
    found = [f"{path.relative_to(ROOT)}:{number}: {line.strip()}" for path in sorted((ROOT / "libra_jax").rglob("*.py"))
             for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if LOOKS_AWAY.search(line)]
    assert found == []


@pytest.mark.parametrize("line", ["x = f()  # type: ignore[arg-type]", "# pyrefly: ignore", "# pyright: basic",
                                  "#mypy: ignore-errors", "# ty: ignore", "@typing.no_type_check"])
def test_how_one_would_tell_it_is_known(line):
    assert LOOKS_AWAY.search(line)
