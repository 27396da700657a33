"""Which solutions are trained on: correct, whole and different ones, in the share asked for, of many problems."""

import pytest

from libra_jax.data import solutions
from libra_jax.records import Problem, VerifiedRollout


def rollout(problem, sample, text="t", *, correct=True, finish="stop"):
    return VerifiedRollout(problem_id=problem, policy="p", sample=sample, text=text, num_tokens=1, finish=finish,
                           correct=correct, decided_by="rule", why="")


def test_every_rollout_is_usable_or_counted_once():
    problems = {"a": Problem(id="a", source="s", question="q")}
    given = [rollout("a", 0, "one  way"), rollout("a", 1, "x", correct=False), rollout("a", 2, "y", correct=None),
             rollout("a", 3, "z", finish="length"), rollout("b", 0, "one way"), rollout("a", 4, "one way\n"),
             rollout("a", 5, "another way")]
    found, stats = solutions.usable(problems, given)
    assert [each.sample for each in found] == [0, 5]
    assert stats == solutions.Stats(not_correct=2, cut_off=1, unknown=1, repeated=1, usable=2)


@pytest.mark.parametrize("judgements, share, number", [
    (8, 0.2, 2),  # 2 of 10
    (24, 0.25, 8),  # 8 of 32
    (9, 0.1, 1), (7, 0.3, 3),  # 3 of 10, where 7 * 0.3 / 0.7 in floats is just below
    (10, 0.5, 10), (3, 0.9, 27),
    (3, 0.6, 5),  # 4.5: half is rounded up
    (5, 0.0, 0), (0, 0.5, 0)])
def test_the_share_is_exact_to_the_nearest_whole_solution(judgements, share, number):
    assert solutions.number_beside(judgements, share) == number


@pytest.mark.parametrize("share", [1.0, -0.1, 1.5])
def test_a_share_that_cannot_be_is_refused(share):
    with pytest.raises(ValueError, match=rf"solution_share={share}: expected at least 0 and less than 1"):
        solutions.number_beside(1, share)


def test_each_problem_is_chosen_once_before_any_is_chosen_twice():
    given = [rollout(name, sample) for name in "abc" for sample in range(4)]
    for seed in range(5):
        chosen = solutions.choose(given, 5, seed)
        assert chosen == sorted(set(chosen)) and len(chosen) == 5
        counts = sorted(sum(given[index].problem_id == name for index in chosen) for name in "abc")
        assert counts == [1, 2, 2]
    assert len({tuple(solutions.choose(given, 5, seed)) for seed in range(9)}) > 1
    assert solutions.choose(given, 12, 0) == list(range(12)) and solutions.choose(given, 0, 0) == []
    with pytest.raises(ValueError, match="13 solutions are wanted and 12 can be had"):
        solutions.choose(given, 13, 0)


def test_the_order_of_the_file_does_not_change_the_choice():
    given = [rollout(name, sample) for name in "abcd" for sample in range(3)]
    names = {(given[index].problem_id, given[index].sample) for index in solutions.choose(given, 6, 3)}
    turned = given[::-1]
    assert {(turned[index].problem_id, turned[index].sample) for index in solutions.choose(turned, 6, 3)} == names
