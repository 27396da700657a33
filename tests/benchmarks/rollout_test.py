"""The benchmark of samplers: its workloads, its counting, its arithmetic, and a tiny run of two of them."""

import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

import pytest

from libra_jax.model.config import ModelConfig

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def rollout(monkeypatch):
    """benchmarks/rollout.py; the scripts there import each other as they do when run."""
    monkeypatch.syspath_prepend(FOLDER)
    if "rollout" in sys.modules:  # its flags are defined once
        return sys.modules["rollout"]
    return importlib.import_module("rollout")


def test_skewed_budgets_are_skewed_as_said(rollout):
    budgets = rollout.skewed_budgets(512, 40)
    assert len(budgets) == 512 and max(budgets) == 800 and min(budgets) >= 1
    assert 39 <= statistics.median(budgets) <= 41
    assert budgets == rollout.skewed_budgets(512, 40)


def test_a_workload_scales_its_stop_set_and_its_prompts_hold_no_stop(rollout):
    config = rollout.PRESETS["tiny"]
    work = rollout.workload("stops", config, num_prompts=9, max_new_tokens=7, median_budget=40)
    assert len(work.prompts) == 9 and len(set(work.stop_ids)) == 6 and work.budgets is None
    assert all(16 <= len(prompt) <= 95 and not set(prompt) & set(work.stop_ids) for prompt in work.prompts)
    skewed = rollout.workload("skewed", config, num_prompts=9, max_new_tokens=7, median_budget=10)
    assert skewed.prompts == work.prompts and skewed.max_new_tokens == max(skewed.budgets) == 200


def _job(rollout, **changes):
    values = dict(checkpoint="", dtype="float32", prompts=[[1], [2], [3]], stop_ids=[], max_new_tokens=9,
                  budgets=[2, 9, 3], batch_sizes=[2], seeds=[0], num_warmups=1)
    return rollout.rollout_job.Job(**values | changes)


def test_static_batches_last_as_long_as_their_longest_and_only_wanted_tokens_count(rollout):
    job = _job(rollout)
    assert rollout.rollout_job.batches(job, 2) == [([[1], [2]], 9), ([[3]], 3)]
    assert rollout.rollout_job.useful(job, [9, 9, 3]) == [2, 9, 3]
    with pytest.raises(ValueError, match="prompt 1 got 8 tokens; expected 9 to 9"):
        rollout.rollout_job.useful(job, [2, 8, 3])
    with pytest.raises(ValueError, match="2 continuations of 3 prompts"):
        rollout.rollout_job.useful(job, [2, 9])
    assert rollout.rollout_job.useful(_job(rollout, budgets=None), [1, 9, 5]) == [1, 9, 5]


def test_other_tokens_and_other_logprobs_are_told(rollout):
    same = {"tokens": [[1, 2]], "logprobs": [[-1.0, -2.0]]}
    assert rollout.differences({"libra": same, "tunix": same}) == []
    (other,) = rollout.differences({"libra": same, "tunix": {**same, "tokens": [[1, 3]]}})
    assert "tunix continues prompt 0 with [1, 3]" in other
    (other,) = rollout.differences({"libra": same, "tunix": {**same, "logprobs": [[-1.0, -2.01]]}})
    assert "0.01 from libra's" in other


def test_the_roofline_by_hand(rollout):
    config = ModelConfig(vocab_size=10, num_layers=2, model_size=4, num_heads=2, num_kv_heads=1, head_size=2,
                         feedforward_size=3, dtype="bfloat16")
    roofline = rollout.roofline
    # A layer: q 4x4, k and v 4x2 each, o 4x4, three of 4x3 = 84 numbers; the logits 40; 2 bytes each.
    assert roofline.weight_bytes(config) == 2 * (2 * 84 + 40)
    assert roofline.slot_bytes(config) == 2 * 2 * 1 * 2 * 2  # keys and values, layers, kv heads, head size, bytes
    # Tokens 0 and 1 after 5 read 5 and 6 slots, and token 0 after 3 reads 3; two slots need two steps for 3 tokens.
    assert roofline.least_bytes(config, [5, 3], [2, 1], 2) == 2 * 416 + 14 * 16
    # One long row needs as many steps as it is long, whatever the slots.
    assert roofline.least_bytes(config, [1], [4], 64) == 4 * 416 + (1 + 2 + 3 + 4) * 16
    work = rollout.Workload(name="skewed", prompts=[[0] * 5, [0] * 3], stop_ids=[], max_new_tokens=2, budgets=[2, 1])
    result = {"device": "NVIDIA L4", "lengths": [[2, 1]], "batch_size": 2, "seconds": [1056 / 0.3e12 * 4]}
    assert rollout.share_of_roofline(config, work, result) == "share of the decode roofline at 0.3 TB/s: 25.0%"
    assert "not measured (cpu:" in rollout.share_of_roofline(config, work, {**result, "device": "cpu"})


def test_a_tiny_run_of_two_samplers(tmp_path):
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; pip install -e '.[dev]'")
    file = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, str(FOLDER / "rollout.py"), "--workload=stops", "--samplers=libra,transformers", "--runs=2",
         "--num_prompts=4", "--num_warmups=1", "--max_new_tokens=8", "--slots=4", f"--json={file}"],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "libra, transformers: the same greedy tokens" in done.stdout
    found = json.loads(file.read_text())["workloads"]["stops"]
    assert list(found) == ["libra", "transformers"] and found["libra"]["num_programs"] > 0
    for result in found.values():
        assert len(result["seconds"]) == 2 and all(1 <= n <= 8 for lengths in result["lengths"] for n in lengths)


def test_a_missing_peer_is_told_and_the_rest_runs(rollout, capsys):
    if not rollout.FLAGS.is_parsed():
        rollout.FLAGS(["rollout"])
    if importlib.util.find_spec("tunix") is not None:
        pytest.skip("google-tunix is installed here")
    assert not rollout._is_there("tunix")
    assert "tunix: not measured" in (told := capsys.readouterr().out) and "--tunix_python=" in told
