import pytest

from libra_jax.bench import policies
from libra_jax.records import Problem, VerifiedRollout

PROBLEMS = [Problem(id=f"p{n}", source="ab"[n % 2], question="q", answer="1") for n in range(40)]


def rollouts(*shares):
    """Two responses to every problem; of problem n, shares[n % len(shares)] of them are right (True, False or None)."""
    return [VerifiedRollout(problem_id=problem.id, policy="p", sample=sample, text="", num_tokens=1, finish="stop",
                            correct=shares[n % len(shares)][sample], decided_by="rule", why="")
            for n, problem in enumerate(PROBLEMS) for sample in range(2)]


def test_problems_count_alike_and_undecided_is_not_right():
    estimate = policies.accuracy(PROBLEMS, rollouts((True, True), (False, None), (True, False), (None, None)))
    assert estimate.value == pytest.approx(3 / 8) and estimate.low < 3 / 8 < estimate.high
    skewed = [*rollouts((False, False)), *(one for one in rollouts((True, True)) if one.problem_id == "p0")]
    assert policies.accuracy(PROBLEMS, skewed).value == pytest.approx(1 / 80)


def test_a_difference_is_paired():
    low, high = rollouts((True, False), (False, False)), rollouts((True, True), (False, True))
    estimate = policies.difference(PROBLEMS, low, high)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, 0.5, 0.5))  # the same gain everywhere
    assert policies.difference(PROBLEMS, high, low).value == pytest.approx(-0.5)


def test_problems_and_responses_must_belong_together():
    with pytest.raises(ValueError, match="'p39' has no response"):
        policies.accuracy(PROBLEMS, rollouts((True, True))[:-2])
    with pytest.raises(ValueError, match="'p39' has responses and is not"):
        policies.accuracy(PROBLEMS[:-1], rollouts((True, True)))
    with pytest.raises(ValueError, match="no problems"):
        policies.accuracy([], [])
