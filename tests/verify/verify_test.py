"""Extraction, equality and bounded batches, on worked cases, hostile text and real rollouts."""

import json
import time

import pytest

from libra_jax.stages import verify
from libra_jax.verify import batch, equal, extract


@pytest.mark.parametrize("text, expected", [
    (r"so \boxed{1} and then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
    (r"\boxed{\left\{x \mid x>0\right\}}", r"\left\{x \mid x>0\right\}"),
    (r"\boxed 7 is it", "7"),
    (r"A: 3 but \boxed{4}", "4"),
    (r"\boxed{never closed", None),
    ("2+2=4\n#### 1,200", "1,200"),
    ("steps\nA: 18", "18"),
    ("**Answer:** $x^2$.", "x^2"),
    ("Hence the answer is 42.", "42"),
    ("first the answer is 1. Then the answer is: 2", "2"),
    ("no result", None),
])
def test_extract(text, expected):
    assert extract.extract(text) == expected


@pytest.mark.parametrize("a, b, expected", [
    ("1,200", "1200", True), ("0.50", r"\frac{1}{2}", True), ("$18", "18.00", True), ("1/3", "0.333", False),
    ("-3", "3", False), ("90^\\circ", "90", True), ("x+1", "x+1", True), ("x+1", "1+x", None), ("1/0", "1", None),
    ("12", "1,2", None),
])
def test_the_exact_path(a, b, expected):
    assert equal.fast_equal(a, b) is expected
    assert equal.fast_equal(b, a) is expected


def test_the_exact_path_never_disagrees_with_math_verify():
    numbers = ["7", "-7", "0.5", ".5", r"\frac{1}{2}", "1/2", "1,234", "1234", "1234.0", r"-\frac{3}{6}", "3.14"]
    decided = 0
    for a in numbers:
        for b in numbers:
            fast, slow = equal.fast_equal(a, b), equal.slow_equal(a, b, timeout=5)
            if fast is not None and slow is not None:
                decided += 1
                assert fast is slow, (a, b)
    assert decided > 100


@pytest.mark.parametrize("a, b", [(r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"), ("1+x", "x+1"), (r"\{1,2\}", r"\{2,1\}")])
def test_mathematics_is_left_to_math_verify(a, b):
    assert equal.equal(a, b) is True
    assert equal.equal(a, "x+2") is False


def test_hostile_answers_are_undecided_in_bounded_time_and_nothing_is_evaluated(tmp_path):
    trap = tmp_path / "owned"
    answers = ["9^{9^{9^{9}}}", "{" * 10_000 + "1" + "}" * 10_000, "x" * 1_000_000, "9^{99999999999}", "(10^9)!",
               f"__import__('pathlib').Path('{trap}').touch()", "2+2"]
    start = time.monotonic()
    decisions = list(batch.decide([(f"A: {answer}", "4") for answer in answers], num_workers=2, timeout=3.0))
    assert time.monotonic() - start < 60
    assert [decision.correct for decision in decisions[:3]] == [None] * 3
    assert all(decision.correct is not True for decision in decisions[:6])
    assert decisions[-1].correct is True
    assert not trap.exists()


def test_a_worker_that_hangs_is_replaced_and_order_is_kept():
    pairs = [("A: 1+x", "x+1"), ("A: 9^{99999999999}-x", "1"), ("A: x-1", "x+1"), ("none", "1"), ("A: 2+x", "x+2")]
    decisions = list(batch.decide(pairs, num_workers=1, timeout=2.0))
    assert [decision.correct for decision in decisions[2:]] == [False, False, True]
    assert decisions[0].correct is True
    assert decisions[1].correct is not True
    assert decisions[3].why == "no final answer found"


@pytest.mark.parametrize("name, form, least", [
    ("gsm8k_gpt3_solutions", "gsm8k_gpt3", 0.995), ("math_qwen2.5_math", "math_qwen", 0.99)])
def test_real_rollouts_agree_with_their_published_labels(shared, tmp_path, name, form, least):
    config = verify.Config(rollouts=str(shared / f"rollouts/{name}.jsonl.gz"), format=form)
    assert verify.run(config, tmp_path)["agreement"] >= least
    lines = (tmp_path / "verified.jsonl").read_bytes()
    # Killed after some lines, one of them torn: the same bytes in the end.
    (tmp_path / "verified.jsonl").unlink()
    (tmp_path / "verified.jsonl.partial").write_bytes(lines[: len(lines) // 2])
    verify.run(config, tmp_path)
    assert (tmp_path / "verified.jsonl").read_bytes() == lines
    assert json.loads((tmp_path / "summary.json").read_text())["rollouts"] == lines.count(b"\n")
