"""Runs killed at random points end as the uninterrupted one, byte for byte (toy_runs.py says how)."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_points_ends_bit_for_bit_as_the_uninterrupted_one(tmp_path, kills):
    seed = int.from_bytes(os.urandom(4), "big")
    command = [sys.executable, "tests/train/toy_runs.py", str(kills), str(seed), str(tmp_path)]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
                          timeout=60 * kills, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["kills"] >= kills and found["how"]["SIGKILL"] and sum(found["where"].values()) == found["kills"]
