"""Scores against numbers worked by hand."""

import numpy as np
import pytest

from libra_jax.bench import score
from libra_jax.bench.significance import Bootstrap
from libra_jax.records import Judgement, JudgingExample

FEW = Bootstrap(num_resamples=50)


def example(id, correct, *, problem=None, source="a", policy="p"):
    return JudgingExample(id=id, problem_id=problem or id, question="q", response="r", correct=correct, policy=policy,
                          source=source)


def judgement(id, verdict, sample=0, value=None, tokens=10):
    return Judgement(example_id=id, judge="j", sample=sample, thought="", verdict=verdict, num_tokens=tokens,
                     score=value)


def measure(examples, judgements):
    return score.evaluate("j", examples, judgements, FEW)


def values(evaluation):
    return {name: estimate.value for name, estimate in evaluation.metrics.items()}


def test_numbers_by_hand():
    # Source a: right, right, wrong. Source b: unparsed. Labels: 3 correct, 1 incorrect.
    examples = [example("1", True), example("2", False, policy="s"), example("3", True), example("4", True, source="b")]
    judgements = [judgement("1", "correct"), judgement("2", "incorrect"), judgement("3", "incorrect"),
                  judgement("4", "unparsed", tokens=50)]
    found = measure(examples, judgements)
    assert values(found) == pytest.approx({
        "mean_of_sources": (2 / 3 + 0) / 2,
        "accuracy": 2 / 4,
        "balanced_accuracy": (1 / 3 + 1) / 2,
        "f1_incorrect": 2 * 1 / (1 + 2),  # one found, one incorrect in truth, two said incorrect
        "macro_f1": (2 * 1 / (3 + 1) + 2 / 3) / 2,
        "auroc": None,
        "pairwise": None,  # no problem has both kinds
        "brier": None,
        "ece": None,
        "agreement": None,
        "alpha": None,
        "unparsed": 1 / 4,
    })
    assert {name: (count, each.value) for name, (count, each) in found.by_source.items()} == {
        "a": (3, pytest.approx(2 / 3)), "b": (1, 0.0)}
    assert {name: (count, each.value) for name, (count, each) in found.by_policy.items()} == {
        "p": (3, pytest.approx(1 / 3)), "s": (1, 1.0)}
    assert found.confusion == {"correct": {"correct": 1, "incorrect": 1, "unparsed": 1},
                               "incorrect": {"correct": 0, "incorrect": 1, "unparsed": 0}}
    assert (found.num_examples, found.num_problems, found.num_judgements, found.mean_tokens) == (4, 4, 4, 20)


def test_an_unparsed_verdict_is_wrong_for_either_label():
    examples = [example("1", True), example("2", False)]
    found = values(measure(examples, [judgement("1", "unparsed"), judgement("2", "unparsed")]))
    assert found["accuracy"] == 0 and found["balanced_accuracy"] == 0 and found["unparsed"] == 1
    assert found["f1_incorrect"] == 0


def test_votes_are_averaged_and_order_does_not_matter():
    examples = [example("1", True), example("2", False)]
    votes = [judgement("1", verdict, sample) for sample, verdict in enumerate(["correct", "correct", "incorrect"])]
    votes += [judgement("2", "incorrect", 0), judgement("2", "unparsed", 1)]
    found = values(measure(examples, votes))
    assert found["accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["auroc"] == 1.0  # 2/3 of the votes against none of the parsed ones
    assert values(measure(examples[::-1], votes[::-1])) == pytest.approx(found)


def test_scores_come_before_votes_and_their_absence_is_a_half():
    examples = [example("1", True), example("2", False), example("3", False)]
    judgements = [judgement("1", "correct", value=0.4), judgement("2", "correct", value=0.3),
                  judgement("3", "correct")]
    assert values(measure(examples, judgements))["auroc"] == pytest.approx(1 / 2)


def test_repeated_judgements_and_scores_are_measured_by_hand():
    examples = [example("1", True, problem="p"), example("2", False, problem="p"), example("3", False, problem="q")]
    votes = [judgement("1", verdict, sample) for sample, verdict in enumerate(["correct", "correct", "incorrect"])]
    votes += [judgement("2", "incorrect", sample) for sample in range(2)] + [judgement("3", "unparsed")]
    found = measure(examples, votes)
    assert values(found)["brier"] == pytest.approx(((2 / 3 - 1) ** 2 + 0 + 0.5**2) / 3)
    assert values(found)["ece"] == pytest.approx((1 / 3 + 0 + 1 / 2) / 3)  # three scores, three bins
    assert values(found)["pairwise"] == 1 and values(found)["agreement"] == pytest.approx((1 / 3 + 1) / 2)
    # Of the repeated ones: 2 correct, 3 incorrect; 2 disagreeing pairs of 2 judgements in 3, expected 2 * 2 * 3 / 4.
    assert values(found)["alpha"] == pytest.approx(1 - 2 / (2 * 2 * 3 / 4))
    assert [(each.num_examples, each.score) for each in found.reliability] == [
        (1, 0.0), (1, 0.5), (1, pytest.approx(2 / 3))]


def test_without_scores_the_verdicts_order_pairs():
    examples = [example("1", True, problem="p"), example("2", False, problem="p"), example("3", False, problem="p")]
    found = values(measure(examples, [judgement("1", "correct"), judgement("2", "unparsed"),
                                      judgement("3", "correct")]))
    assert found["pairwise"] == pytest.approx((1 + 1 / 2) / 2) and found["auroc"] is None


def test_auroc_is_the_share_of_ordered_pairs_and_ties_half():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 40) / 5, rng.random(40) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[labels] for b in scores[~labels]]
    weights = np.ones((1, 40))
    assert score.auroc(scores, labels, weights)[0] == pytest.approx(np.mean(pairs))
    weights = rng.integers(0, 4, (3, 40)).astype(float)  # a weight of n is n copies
    for row, value in zip(weights.astype(int), score.auroc(scores, labels, weights), strict=True):
        copies = score.auroc(np.repeat(scores, row), np.repeat(labels, row), np.ones((1, row.sum())))
        assert value == pytest.approx(copies[0])
    assert np.isnan(score.auroc(scores, np.ones(40, bool), np.ones((1, 40)))[0])


def test_the_paired_difference_is_sharper_than_its_parts():
    examples = [example(f"{n}", n % 2 == 0) for n in range(200)]
    hard = set(range(0, 200, 3))
    first = [judgement(f"{n}", "unparsed" if n in hard else ("correct", "incorrect")[n % 2]) for n in range(200)]
    second = [judgement(f"{n}", "unparsed" if n in hard and n % 4 else ("correct", "incorrect")[n % 2])
              for n in range(200)]
    found = score.difference(examples, first, second, FEW)
    one = score.evaluate("j", examples, first, FEW).metrics["mean_of_sources"]
    assert 0 < found.low < found.value < found.high
    assert found.high - found.low < one.high - one.low
    assert score.difference(examples, first, first, FEW).high == 0
    with pytest.raises(ValueError, match=r"accurracy.*accuracy"):
        score.difference(examples, first, second, FEW, metric="accurracy")


@pytest.mark.parametrize("examples, judgements, message", [
    ([], [], "0 examples"),
    ([("1", True), ("1", True)], [], "2 examples with 1 different ids"),
    ([("1", None)], [("1", "correct")], "1 examples have no label, such as '1'"),
    ([("1", True)], [("2", "correct")], "of example '2', which is not"),
    ([("1", True)], [("1", "correct"), ("1", "correct")], "sample 0 of example '1' is there twice"),
    ([("1", True), ("2", True)], [("1", "correct")], "1 of 2 examples have no judgement, such as '2'"),
])
def test_what_does_not_fit_together_is_refused(examples, judgements, message):
    with pytest.raises(ValueError, match=message):
        score.tabulate([example(*each) for each in examples], [judgement(*each) for each in judgements])
