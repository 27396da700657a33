"""Sample sizes: by hand, and by simulating benches of the size that is told."""

import math

import numpy as np
import pytest

from libra_jax.bench import power, score
from libra_jax.bench.power import Target
from libra_jax.records import Judgement, JudgingExample


def table(right, problems, sources=None):
    some = [JudgingExample(id=f"{n}", problem_id=problem, question="q", response="r", correct=True, policy="p",
                           source=sources[n] if sources else "s") for n, problem in enumerate(problems)]
    return score.tabulate(some, [
        Judgement(example_id=f"{n}", judge="j", sample=0, thought="", num_tokens=1,
                  verdict="correct" if each else "incorrect") for n, each in enumerate(right)])


def test_by_hand():
    # One of four problems changes: deviations 3/4 and three times -1/4, squares 3/4, variance 4/3 * 3/4 / 16 = 1/16.
    found = power.of(table([0, 0, 0, 0], "abcd"), table([1, 0, 0, 0], "abcd"), Target(points=(5.0, 10.0)))
    assert found.standard_error == pytest.approx(1 / 4) and found.design_effect == pytest.approx(1)
    assert found.smallest == pytest.approx((1.959964 + 0.841621) / 4, rel=1e-5)
    assert found.problems == {"5": math.ceil(4 * (0.700396 / 0.05) ** 2), "10": math.ceil(4 * (0.700396 / 0.1) ** 2)}
    assert found.examples == found.problems


def test_two_responses_that_always_agree_are_worth_one():
    once = power.of(table([0] * 4, "abcd"), table([1, 0, 0, 0], "abcd"), Target())
    twice = power.of(table([0] * 8, "aabbccdd"), table([1, 1, 0, 0, 0, 0, 0, 0], "aabbccdd"), Target())
    assert twice.standard_error == pytest.approx(once.standard_error) and twice.problems == once.problems
    assert twice.examples["1"] == pytest.approx(2 * once.examples["1"], abs=1)
    assert twice.design_effect == pytest.approx((1 / 16) / (1.5 / 7 / 8))


def test_sources_count_alike():
    # In each source one of two problems changes: variance 2 * (1/4 + 1/4) / 4 = 1/4; of the mean of two, 1/8.
    found = power.of(table([0] * 4, "abcd", "sstt"), table([1, 0, 1, 0], "abcd", "sstt"), Target())
    assert found.standard_error == pytest.approx(math.sqrt(1 / 8))


def test_a_bench_of_the_told_size_finds_the_difference_as_often_as_told():
    rng = np.random.default_rng(0)

    def bench(count):
        ease = np.repeat(rng.standard_normal(count), 4)
        first = ease + rng.standard_normal(4 * count) > 0
        second = ease + rng.standard_normal(4 * count) + 0.2 * np.repeat(rng.standard_normal(count), 4) > -0.13
        problems = [f"{n // 4}" for n in range(4 * count)]
        return first, second, problems

    first, second, problems = bench(20_000)
    gain = 100 * (second.mean() - first.mean())
    told = power.of(table(first, problems), table(second, problems), Target(points=(gain,), power=0.8))
    needed = next(iter(told.problems.values()))
    assert 300 < needed < 3000 and told.design_effect > 1
    found = 0
    for _ in range(150):
        first, second, _ = bench(needed)
        change = (second.astype(float) - first).reshape(needed, 4).mean(axis=1)
        found += change.mean() / (change.std(ddof=1) / math.sqrt(needed)) > 1.96
    assert found / 150 == pytest.approx(0.8, abs=0.09)


def test_nothing_is_told_from_nothing():
    same = table([1, 0, 1], "abc")
    assert power.of(same, same, Target()) == power.Power(problems=dict.fromkeys("125"), examples=dict.fromkeys("125"))
    assert power.of(table([1, 1], "aa"), table([0, 0], "aa"), Target()).smallest is None
    for wrong in ({"power": 1.0}, {"points": (0.0,)}):
        with pytest.raises(ValueError, match="expected points above 0"):
            Target(**wrong)
