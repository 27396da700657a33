"""The benchmark of training runs at a tiny size, and its sides train the same; the arithmetic of a GPU's share."""

import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

BENCHMARK = pathlib.Path(__file__).parents[2] / "benchmarks" / "train.py"
TINY = ("--num_layers=1", "--model_size=32", "--num_heads=2", "--num_kv_heads=1", "--head_size=16", "--vocab_size=512",
        "--feedforward_size=64", "--batch_size=4", "--num_steps=2", "--warmup=1", "--bucket=512", "--repeats=1")


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    return importlib.import_module("train_report")


def test_the_sides_train_the_same_and_all_is_reported(shared, tmp_path):
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; the benchmark compares with it")
    if not (shared / "problems" / "gsm8k_train.jsonl.gz").is_file():
        pytest.skip(f"no GSM8K in {shared}")
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # and a single device
    environment = os.environ | {"LIBRA_SHARED": str(shared.parent), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": quick}
    command = [sys.executable, str(BENCHMARK), *TINY, f"--json={tmp_path / 'found.json'}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no GPU, so no share of a peak" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["wrong"] == [] and set(found["sides"]) == {"transformers", "unpacked", "packed"}
    for side in found["sides"].values():
        assert side["first_batch_before"] == pytest.approx(found["sides"]["transformers"]["first_batch_before"],
                                                           abs=1e-4)
        assert side["tokens_per_second"] > 0 and 0 <= side["padding"] < 1 and side["utilisation"] is None
    assert found["sides"]["packed"]["padding"] < found["sides"]["transformers"]["padding"]
    assert {"packed/transformers", "unpacked/transformers", "packed/unpacked"} == found["ratios"].keys()


def test_the_share_of_a_peak(report):
    assert report.utilisation(989e12, 2.0, "NVIDIA H100 80GB HBM3") == 0.5
    assert report.utilisation(756e12, 1.0, "NVIDIA H100 PCIe") == 1.0
    assert report.utilisation(121e12, 1.0, "NVIDIA L4") == 1.0
    assert report.utilisation(362e12, 1.0, "NVIDIA L40S") == 1.0
    assert report.utilisation(1e12, 1.0, "cpu") is None and report.utilisation(1e12, 1.0, "NVIDIA L400") is None


def test_sides_that_train_differently_are_noticed(report):
    run = {"before": 1.0, "losses": [1.0, 2.0]}
    runs = {"transformers": [run], "unpacked": [run], "packed": [run]}
    assert report.differences(runs, (1e-3, 1e-3)) == []
    assert len(report.differences(runs | {"packed": [run | {"before": 1.1}]}, (1e-3, 1e-3))) == 1
    assert "step 1" in report.differences(runs | {"unpacked": [run | {"losses": [1.0, 2.1]}]}, (1e-3, 1e-3))[0]
    assert report.differences(runs | {"packed": [run | {"before": float("nan")}]}, (1e-3, 1e-3))
