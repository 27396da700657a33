"""A judge of scalar scores: thresholds by hand, never chosen by the problem's own labels; order kept."""

import dataclasses

import numpy as np
import pytest

from libra_jax.judges import scores
from libra_jax.judges.scores import Scores
from libra_jax.records import JudgingExample, Score


def example(name, problem, correct):
    return JudgingExample(id=name, problem_id=problem, question="q", response="r", correct=correct, policy="p",
                          source="s")


# Each problem has a right and a wrong response; the scale of "odd" lies elsewhere than that of the other two.
EXAMPLES = [example(f"{problem}/{kind}", problem, kind == "right")
            for problem in ("one", "two", "odd") for kind in ("right", "wrong")]
GIVEN = {"one/right": 3.0, "one/wrong": -1.0, "two/right": 5.0, "two/wrong": 1.0, "odd/right": -7.0, "odd/wrong": -9.0}


def judged(examples=EXAMPLES, calibration=EXAMPLES, given=GIVEN, **kwargs):
    return list(Scores(scores=given, calibration=calibration).judge(examples, **kwargs))


@pytest.mark.parametrize("values, incorrect, correct, expected", [
    ([1, 2, 3, 4], [1, 1, 0, 0], [0, 0, 1, 1], 2.5),
    ([1, 2, 3, 4], [0, 0, 1, 1], [1, 1, 0, 0], 1.0),  # upside down: calling all correct is best
    ([1, 2, 3], [2, 0, 1], [0, 1, 3], 1.5),  # right for 4 of 4 correct and 2 of 3 incorrect
    ([1, 2, 3, 4, 5], [1, 0, 0, 1, 0], [0, 1, 1, 1, 1], 1.5),  # 1 + 1/2, where 4.5 has 1/4 + 1
    ([1, 2, 3, 4], [1, 0, 1, 0], [0, 1, 0, 1], 1.5),  # 1.5 and 3.5 are equally good; the middle of the two is the first
    ([1, 2, 3], [1, 0, 0], [0, 0, 1], 2.0),  # nobody has 2
    ([0.0, 5e-324], [1, 0], [0, 1], 5e-324),  # the middle would round to the lower one
])
def test_the_threshold_has_the_best_balanced_accuracy(values, incorrect, correct, expected):
    counts = np.array([incorrect, correct], float)
    assert scores.threshold(np.array(values, float), counts) == expected


def test_a_problem_is_judged_by_the_threshold_of_the_others():
    found = judged()
    # Of the others of "one", right are 5 and -7, wrong 1 and -9: thresholds -8 (1 + 1/2) and 3 (1/2 + 1) are equally
    # good, and the first is taken; so it is for "two". Of the others of "odd", right are 3 and 5, wrong -1 and 1.
    assert [each.thought.partition("threshold ")[2] for each in found] == ["-8", "-8", "-8", "-8", "2", "2"]
    assert [each.verdict for each in found] == ["correct"] * 4 + ["incorrect"] * 2


def test_no_label_has_a_say_in_how_its_own_problem_is_judged():
    for problem in ("one", "two", "odd"):
        turned = [dataclasses.replace(each, correct=not each.correct) if each.problem_id == problem else each
                  for each in EXAMPLES]
        before, after = judged(), judged(calibration=turned)
        own = [place for place, each in enumerate(EXAMPLES) if each.problem_id == problem]
        assert [before[place].verdict for place in own] == [after[place].verdict for place in own]
        assert [each.thought for each in before] != [each.thought for each in after]
        unlabelled = [dataclasses.replace(each, correct=None) for each in EXAMPLES]
        assert judged(examples=unlabelled) == before


def test_other_problems_may_calibrate():
    calibration = [example("x", "other", True), example("y", "other", False)]
    found = judged(calibration=calibration, given=GIVEN | {"x": 2.0, "y": 0.0})
    assert {each.thought.partition("threshold ")[2] for each in found} == {"1"}
    assert [each.verdict for each in found] == ["correct", "incorrect", "correct", "correct", "incorrect", "incorrect"]


def test_scores_become_probabilities_in_the_same_order():
    rng = np.random.default_rng(0)
    examples = [example(str(number), str(number // 4), bool(rng.random() < 0.7)) for number in range(400)]
    given = {each.id: float(rng.normal() * 40 + 30 * each.correct - 100) for each in examples}
    found = judged(examples, examples, given)
    probabilities = np.array([each.score for each in found])
    order = np.argsort([given[each.id] for each in examples])
    assert (np.diff(probabilities[order]) > 0).all()
    labels = np.array([each.correct for each in examples])
    assert probabilities.mean() == pytest.approx(labels.mean(), abs=0.005)  # as a fitted intercept makes it
    upside_down = judged(examples, examples, {name: -value for name, value in given.items()})
    assert (np.diff(np.array([each.score for each in upside_down])[order]) < 0).all()


def test_the_curve_is_the_maximum_of_its_likelihood():
    """Two points and two numbers: it goes through both targets, 1/3 at 1 and 2/3 at 3, whose logits are -+log 2."""
    values = np.array([1.0, 3.0])
    targets = (1 + 1) / (1 + 2), 1 / (1 + 2)  # Platt's, of one correct and one incorrect example
    slope, intercept = scores.logistic(values, np.array([False, True]))
    fitted = 1 / (1 + np.exp(-(slope * values + intercept)))
    assert fitted == pytest.approx([targets[1], targets[0]], abs=1e-6)
    assert (slope, intercept) == (pytest.approx(np.log(2), abs=1e-5), pytest.approx(-2 * np.log(2), abs=1e-5))


@pytest.mark.parametrize("spread", [1e-12, 1.0, 1e12])
def test_the_curve_has_no_scale_of_its_own(spread):
    rng = np.random.default_rng(1)
    labels = rng.random(200) < 0.5
    values = rng.normal(size=200) + labels
    slope, intercept = scores.logistic(values, labels)
    other, there = scores.logistic(values * spread, labels)
    assert (other * spread, there) == (pytest.approx(slope), pytest.approx(intercept))
    same, middle = scores.logistic(np.full(200, spread), labels)
    assert np.isfinite([same, middle]).all()


def test_separated_scores_end_at_a_finite_curve():
    values = np.array([-1e6, -1.0, 0.0, 1.0, 2.0, 1e6])
    slope, intercept = scores.logistic(values, values > 0)
    assert 0 < slope < np.inf and np.isfinite(intercept)


def test_an_example_without_a_score_is_unparsed_and_counted():
    given = {name: value for name, value in GIVEN.items() if name != "two/right"}
    found = judged(given=given)
    assert [(each.verdict, each.score) for each in found if each.example_id == "two/right"] == [("unparsed", None)]
    assert len(found) == 6


def test_skip_leaves_out_the_first_judgements():
    assert judged(skip=4) == judged()[4:]


def test_what_cannot_be_judged_is_named():
    with pytest.raises(ValueError, match=r"none of the 6 examples has a score; .*'one/right' and 'other'"):
        judged(given={"other": 1.0})
    with pytest.raises(ValueError, match=r"other problems than 'one', 2 are correct and 0 incorrect.*calibration"):
        judged(calibration=[each for each in EXAMPLES if each.correct])
    with pytest.raises(ValueError, match="'one/right' has no label"):
        judged(calibration=[dataclasses.replace(each, correct=None) for each in EXAMPLES])
    with pytest.raises(ValueError, match=r"'a' has the scores 1\.0 and 2\.0; expected one"):
        scores.load([Score(example_id="a", score=1.0), Score(example_id="a", score=2.0)], (), name="s")
