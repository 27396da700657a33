"""benchmarks/verify.py runs on a few real pairs, and both deciders agree there."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
COUNTS = {"agree", "only_libra_jax_right", "only_math_verify_right", "differ_unlabelled", "undecided", "algebra",
          "labelled"}


def run(*flags, shared=None):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"LIBRA_SHARED": str(shared)} if shared else {})
    return subprocess.run([sys.executable, str(ROOT / "benchmarks" / "verify.py"), *flags], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False, timeout=300)


def test_a_few_pairs_are_measured_and_decided_alike(shared, tmp_path):
    out = tmp_path / "result.json"
    done = run("--pairs=20", "--repeats=1", "--num_workers=1", "--variants=text", "--need=0", f"--json={out}",
               shared=shared.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert result["passed"] is True and result["num_workers"] == 1
    assert [(row["file"], row["variant"]) for row in result["rows"]] == [("gsm8k_gpt3", "text"), ("math_qwen", "text")]
    for row in result["rows"]:
        assert row["pairs"] == 20 and len(row["ratios"]) == 1 and row["ratio"] > 0
        assert row["accuracy"] == {"libra_jax": 1.0, "math-verify": 1.0}
        counts = row["decisions"]
        assert set(counts) == COUNTS and counts["undecided"] == 0
        assert counts["agree"] + len(row["disagreements"]) == 20
        assert counts["differ_unlabelled"] == len(row["disagreements"])  # only where the published reference is damaged
        for side in ("libra_jax", "math-verify"):
            assert row[side]["pairs_per_second"] > 0 and row[side]["start_seconds"] > 0
            assert f"{row['file']:11}{row['variant']}" in done.stdout


def test_missing_rollouts_and_unknown_variants_are_named(tmp_path):
    done = run(shared=tmp_path)
    assert done.returncode == 1 and "set LIBRA_SHARED" in done.stderr and "Traceback" not in done.stderr
    done = run("--variants=texts")
    assert done.returncode == 1 and "--variants=texts: expected some of text, answers" in done.stdout + done.stderr
