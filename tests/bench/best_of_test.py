"""Best of n against counting every subset, and by hand."""

import collections
import itertools
import math

import numpy as np
import pytest

from libra_jax.bench import best_of

NONE = float("nan")


def responses(name, right, answers, **scores):
    return best_of.Responses(problem=name, source="s", right=np.array(right, bool), answers=answers,
                             scores={judge: np.array(some, float) for judge, some in scores.items()})


def mean_over_subsets(right, n, pick):
    """The mean over every subset of n of the share of right ones among the indices that `pick` leaves."""
    return np.mean([np.mean([right[index] for index in pick(some)])
                    for some in itertools.combinations(range(len(right)), n)])


def test_picks_by_hand():
    right = np.array([True, False, False])
    assert best_of.by_score(right, np.array([2.0, 2.0, 1.0]), 2) == pytest.approx(0.5)
    assert best_of.by_score(right, np.array([NONE, 0.0, 0.0]), 2) == 0.0  # what has no score is picked last
    assert best_of.by_majority(np.array([True, True, False]), [0, 0, 1], 2) == pytest.approx(2 / 3)
    assert best_of.by_majority(np.array([True, False, False]), [0, None, None], 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(6))
def test_expectations_equal_counting_every_subset(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(4, 8))
    right = rng.random(size) < 0.5
    scores = rng.integers(0, 4, size).astype(float)
    scores[0] = NONE
    answers = [None if drawn == 3 else int(drawn) for drawn in rng.integers(0, 4, size)]

    def highest(some):
        given = [-math.inf if math.isnan(scores[index]) else scores[index] for index in some]
        return [index for index, score in zip(some, given, strict=True) if score == max(given)]

    def commonest(some):
        votes = collections.Counter(answers[index] for index in some if answers[index] is not None)
        # By chance among tied answers, which are equally many responses, hence by chance among their responses.
        return [index for index in some if not votes or votes[answers[index]] == max(votes.values())]

    for n in range(1, size + 1):
        assert best_of.by_score(right, scores, n) == pytest.approx(mean_over_subsets(right, n, highest))
        assert best_of.by_majority(right, answers, n) == pytest.approx(mean_over_subsets(right, n, commonest))


def test_the_verifier_is_pass_at_n_and_all_pickers_agree_at_one():
    few = responses("a", [1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 2, 3, 4, 5, 5], judge=range(8))
    found = best_of.values([few], [1, 4, 8])
    assert found["verifier"][0] == pytest.approx([1 / 4, 1 - math.comb(6, 4) / math.comb(8, 4), 1.0])
    assert {round(each[0, 0], 9) for each in found.values()} == {0.25}
    assert found["random"][0].tolist() == [0.25] * 3 and found["judge"][0, 2] == 0.0
    assert list(found) == ["random", "majority answer", "judge", "verifier"]


def test_many_responses_stay_exact():
    right = np.arange(64) < 20
    answers = [index % 20 if index < 20 else 20 + index % 7 for index in range(64)]
    assert best_of.by_majority(right, answers, 1) == pytest.approx(20 / 64)
    assert best_of.by_majority(right, answers, 64) == 0.0  # seven wrong answers are given six or seven times each
    assert 0 < best_of.by_majority(right, answers, 16) < 20 / 64


def test_lines_have_paired_gains_and_prices():
    problems = [responses(f"p{number}", [number % 2, 1, 0, 0], [0, 0, 1, 2], judge=[1, 0, 0, 0])
                for number in range(40)]
    lines = {line.picker: line for line in best_of.lines(problems, [1, 4])}
    assert [each.value for each in lines["judge"].accuracy] == pytest.approx([3 / 8, 1 / 2])
    judge, top = lines["judge"], lines["verifier"]
    assert judge.gain.value == pytest.approx(1 / 2 - 3 / 8) and judge.price.value == pytest.approx(1 / 2)
    assert judge.price.low < 0.5 < judge.price.high and (top.price.low, top.price.high) == (0, 0)
    assert lines["random"].gain.value == 0 and lines["majority answer"].accuracy[1].value == pytest.approx(3 / 4)


@pytest.mark.parametrize("sizes, message", [([8], "best of 8: problem 'short' has 2 responses"),
                                            ([0], "expected a number from 1")])
def test_sizes_that_cannot_be_are_refused(sizes, message):
    given = [responses("long", [1] * 8, [0] * 8), responses("short", [1, 0], [0, 1])]
    with pytest.raises(ValueError, match=message):
        best_of.lines(given, sizes)


def test_no_problems_and_a_judge_with_a_taken_name_are_refused():
    with pytest.raises(ValueError, match="no problems"):
        best_of.lines([], [1])
    with pytest.raises(ValueError, match="a judge is named 'random'"):
        best_of.lines([responses("a", [1], [0], random=[1])], [1])
