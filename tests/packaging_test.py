"""The wheel and the source distribution build without a network, hold what they must, and need no checkout."""

import email
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

pytest.importorskip("build", reason="build is not installed; pip install libra_jax[dev]")

ROOT = pathlib.Path(__file__).parents[1]


def files() -> set[str]:
    """What is to be distributed: all files of the repository."""
    done = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True,
                          capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a checkout")
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of both, built of the repository's files alone: the wheel of what the source distribution holds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    done = subprocess.run([sys.executable, "-m", "build", "--no-isolation", f"--outdir={out}", str(source)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deprecat" not in done.stderr.lower(), done.stderr
    return out


def test_the_source_distribution_holds_the_repository(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert files() - held == set()
    made = {name for name in held - files() if "egg-info" not in name}
    assert made <= {"PKG-INFO", "setup.cfg"}


def test_the_wheel_holds_the_package_its_data_and_the_configs(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (about,) = (archive.read(name) for name in archive.namelist() if name.endswith("/METADATA"))
    wanted = {name for name in files() if name.startswith("libra_jax/")}
    wanted |= {f"libra_jax/{name}" for name in files() if name.startswith("configs/")}
    assert held == wanted
    assert {"libra_jax/py.typed", "libra_jax/bench/report.schema.json", "libra_jax/bench/page.css",
            "libra_jax/miniature/checkpoint/model.safetensors", "libra_jax/configs/paper/stages.py"} <= held
    metadata = email.message_from_bytes(about)
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# libra_jax")


def test_the_wheel_works_without_a_checkout(built, tmp_path):
    (path,) = built.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(site)  # as an installer does with one that is pure Python

    def libra(*words: str) -> str:
        code = f"import sys, libra_jax; assert libra_jax.__path__[0].startswith({str(site)!r}); " \
               "from libra_jax.stages import cli; sys.exit(cli.main(['libra', *sys.argv[1:]]))"
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=elsewhere, capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(site)}, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "  demo " in libra("--help")
    (elsewhere / "bench.jsonl").write_text(json.dumps({
        "id": "1", "problem_id": "1", "question": "2+3?", "response": "5", "correct": True, "policy": "p",
        "source": "s"}) + "\n")
    assert "correct=1" in libra("judge", "--workdir=out", "--config.examples=bench.jsonl",
                                "--config.judge=majority_answer") and (elsewhere / "out" / "judgements.jsonl").exists()
    assert "demo.json" in libra("demo", "--help")
    assert "batch_size" in libra("sft", "--config=configs/miniature_sft.py", "--help")
