"""The table of differences between sampler and trainer, in small."""

import pathlib
import subprocess
import sys


def test_float32_agrees_and_less_exact_caches_differ_more():
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "benchmarks/mismatch.py", "--num_prompts=16", "--max_new_tokens=24"],
                          cwd=root, capture_output=True, text=True, check=True)
    rows = {(*line.split()[:2], " ".join(line.split()[2:-3])): [float(each) for each in line.split()[-3:]]
            for line in done.stdout.splitlines()[2:]}
    mean, p99, largest = rows["float32", "float32", "of its dtype"]
    assert mean <= p99 <= largest < 1e-5
    assert rows["float32", "int8", "of its dtype"][0] > 10 * mean
    assert len(rows) == 6 and rows["bfloat16", "int8", "of float32"][0] > 10 * mean
