"""benchmarks/steps.py: the estimate against numbers worked by hand, and its table on the real solutions."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def estimate():
    spec = importlib.util.spec_from_file_location("steps_benchmark", ROOT / "benchmarks/steps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.estimate


def rows(stratum, wrong, right):
    return [{"stratum": stratum, "wrong": number < wrong} for number in range(wrong + right)]


def test_worked_numbers(estimate):
    given = [*rows("flagged", 1, 1), *rows("rest", 1, 17)]
    found = estimate(given, [True, True] + [False] * 18, {"flagged": 10, "rest": 90}, 10)
    np.testing.assert_allclose(found[:, 0], [1 / 2, 5 / (5 + 5)])
    assert (found[:, 1] < found[:, 0]).all() and (found[:, 0] < found[:, 2]).all()
    # Jeffreys's interval of 1 in 2, a Beta(1.5, 1.5).
    np.testing.assert_allclose(found[0, 1:], [0.061, 0.939], atol=0.01)


def test_more_labels_make_intervals_narrower_and_nothing_missed_leaves_doubt(estimate):
    few = estimate([*rows("flagged", 9, 1), *rows("rest", 0, 10)], [True] * 10 + [False] * 10,
                   {"flagged": 10, "rest": 1000}, 10)
    many = estimate([*rows("flagged", 9, 1), *rows("rest", 0, 500)], [True] * 10 + [False] * 500,
                    {"flagged": 10, "rest": 1000}, 10)
    assert few[1, 0] == many[1, 0] == few[1, 2] == 1.0
    assert few[1, 1] < many[1, 1] < 1.0


def test_the_table_of_the_docs(shared):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LIBRA_SHARED": str(shared.parent)}
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks/steps.py")], env=environment, capture_output=True,
                          text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs/criteria.md").read_text(encoding="utf-8")
    for line in done.stdout.splitlines():
        assert line in page
