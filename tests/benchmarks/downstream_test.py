"""The comparison of judge, majority and verifier: its problems, and its figures by hand."""

import dataclasses
import importlib.util
import pathlib

import numpy as np
import pytest

from libra_jax import records
from libra_jax.miniature import arithmetic
from libra_jax.records import Problem, VerifiedRollout

_spec = importlib.util.spec_from_file_location(
    "benchmark_downstream", pathlib.Path(__file__).parents[2] / "benchmarks/downstream.py")
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)


def test_the_verifier_alone_gets_the_answers_of_the_demos_problems(tmp_path):
    asked = list(arithmetic.problems(4, 9))
    records.write(tmp_path / "unanswered.jsonl", [dataclasses.replace(each, answer=None) for each in asked[2:7]])
    records.write(tmp_path / "held_out.jsonl", asked[7:])
    files = bench.prepare(tmp_path, tmp_path / "out")
    assert list(records.read(files["known"], Problem)) == asked[2:7]
    assert [each.answer for each in records.read(files["open"], Problem)] == [None] * 5
    assert list(records.read(files["held_out"], Problem)) == asked[7:]
    records.write(tmp_path / "unanswered.jsonl", [dataclasses.replace(asked[0], question="What is 1+1?", answer=None)])
    with pytest.raises(ValueError, match="not problems of the miniature's stream 4"):
        bench.prepare(tmp_path, tmp_path / "other")


def test_gains_are_on_the_policy_before_and_parts_of_the_verifiers():
    problems = [Problem(id=f"p{number}", source="s", question="q") for number in range(40)]
    before = np.tile([0.0, 0.5], 20)
    values = {"before": before, "rl judge": before + 0.2, "rl verifier": before + 0.4, "dpo judge": before - 0.1,
              "dpo verifier": before + 0.1}
    found = bench.estimates(problems, values)
    assert found["before"].keys() == {"accuracy"} and found["before"]["accuracy"].value == 0.25
    judge = found["rl judge"]
    assert judge["accuracy"].value == pytest.approx(0.45) and judge["accuracy"].low < 0.45 < judge["accuracy"].high
    assert [judge["gain"].low, judge["gain"].high, judge["part"].value] == pytest.approx([0.2, 0.2, 0.5])
    assert found["dpo judge"]["part"].value == pytest.approx(-1.0)


def test_shares_are_of_each_problem_in_order():
    problems = [Problem(id=name, source="s", question="q") for name in "ab"]
    made = [VerifiedRollout(problem_id=name, policy="p", sample=sample, text="", num_tokens=1, finish="stop",
                            correct=correct, decided_by="rule", why="")
            for name, sample, correct in (("b", 0, True), ("a", 0, False), ("b", 1, None), ("a", 1, False))]
    assert bench.shares(problems, made).tolist() == [0.0, 0.5]
