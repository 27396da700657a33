"""The hooks of .pre-commit-config.yaml pass on the repository, and stop what they are there to stop."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("pre_commit", reason="pre-commit is not installed; pip install libra_jax[dev]")
pytest.importorskip("pre_commit_hooks", reason="pre-commit-hooks is not installed; pip install libra_jax[dev]")

ROOT = pathlib.Path(__file__).parents[1]
BAD = {
    "style.py": "import os\n",
    "libra_jax/types.py": '"""A module."""\n\nx: int = "one"\n',
    "script.sh": "#!/usr/bin/env bash\necho $1\n",
    "end.md": "no newline at the end",
    "spaces.md": "spaces at the end  \n",
    "conflict.md": "<<<<<<< HEAD\none\n=======\nother\n>>>>>>> branch\n",
    "large.bin": "x" * 600_000,
}


def git(folder: pathlib.Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True,
                   capture_output=True)


def hooks(folder: pathlib.Path, home: pathlib.Path) -> dict[str, bool]:
    """Runs all hooks on all files; whether each passed, by name."""
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([sys.executable, "-m", "pre_commit", "run", "--all-files", "--color=never"], cwd=folder,
                          capture_output=True, text=True, check=False,
                          env=os.environ | {"PATH": path, "PRE_COMMIT_HOME": str(home)})
    lines = [line for line in done.stdout.splitlines() if line.endswith(("...Passed", "...Failed"))]
    assert len(lines) == len(BAD), done.stdout + done.stderr
    return {line.partition("..")[0]: line.endswith("Passed") for line in lines}


def test_the_hooks_stop_what_they_are_there_to_stop(tmp_path):
    folder = tmp_path / "repository"
    (folder / "libra_jax").mkdir(parents=True)
    for name in (".pre-commit-config.yaml", "pyproject.toml", ".shellcheckrc"):
        shutil.copy(ROOT / name, folder)
    for name, text in BAD.items():
        (folder / name).write_text(text)
    git(folder, "init")
    git(folder, "add", "-A")
    shutil.copy(ROOT / "LICENSE", folder / ".git" / "MERGE_MSG")  # conflicts are looked for while a merge goes on
    shutil.copy(ROOT / "LICENSE", folder / ".git" / "MERGE_HEAD")
    found = hooks(folder, tmp_path / "home")
    assert not any(found.values()), found


def test_the_hooks_pass_on_the_repository(tmp_path):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    folder = tmp_path / "repository"  # a copy, since some hooks mend what they find
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    git(folder, "init")
    git(folder, "add", "-A")
    found = hooks(folder, tmp_path / "home")
    assert all(found.values()), found
