"""The noise of labels: weighted shares by hand, and intervals against known ones and by simulation."""

import numpy as np
import pytest

from libra_jax.bench import audit, noise
from libra_jax.bench.audit import Draw
from libra_jax.records import HumanLabel, Judgement, JudgingExample


def gathered(sizes):
    """Items of sources (name, how many, the judge's verdict), all labelled correct."""
    examples, judgements = [], []
    for source, count, verdict in sizes:
        for number in range(count):
            name = f"{source}{number}/m/0"
            examples.append(JudgingExample(id=name, problem_id=f"{source}{number}", question="q", response="r",
                                           correct=True, policy="m", source=source))
            judgements.append(Judgement(example_id=name, judge="j", sample=0, thought="", verdict=verdict,
                                        num_tokens=1))
    return audit.gather(examples, [], {}, {"j": judgements})


def labels(drawn, correct):
    """Labels by item id; `correct` says what people say of each item."""
    return {item.id: HumanLabel(problem_id=item.problem_id, policy="m", sample=0, correct=correct(item))
            for item in drawn}


def test_a_share_weighs_each_label_by_what_it_stands_for():
    items = gathered([("easy", 90, "correct"), ("hard", 10, "incorrect")])
    drawn = audit.draw(items, Draw(disagreements=5, agreements=10))
    said = labels(drawn, lambda item: item.source == "easy")  # people call all labels of "hard" wrong
    found = noise.estimate(items, drawn, said)
    overall = found["overall"]["all"]
    assert overall.value == pytest.approx(10 / 100)  # 5 labels that stand for 2 each, of 100; not 5 of 15
    assert (overall.labels, overall.covered, overall.population) == (15, 100, 100)
    assert found["by_source"]["easy"].value == 0 and found["by_source"]["hard"].value == 1
    assert found["by_label"]["says correct"].value == pytest.approx(0.1)
    assert found["judges"]["j"].value == 0  # the judge sides with people on both
    assert overall.low < 0.1 < overall.high and found["undecided"] == {}


def test_who_could_not_tell_does_not_count_and_the_rest_stands_for_more():
    items = gathered([("easy", 90, "correct"), ("hard", 10, "incorrect")])
    drawn = audit.draw(items, Draw(disagreements=5, agreements=10))
    hard = [item.id for item in drawn if item.source == "hard"]
    found = noise.estimate(items, drawn, labels(drawn, lambda item: None if item.id in hard[:3] else item.id in hard))
    assert found["by_source"]["hard"].labels == 2 and found["overall"]["all"].value == pytest.approx(90 / 100)
    found = noise.estimate(items, drawn, labels(drawn, lambda item: None if item.id in hard else True))
    assert found["overall"]["all"].covered == 90 and found["by_source"]["hard"] == noise.Share(
        value=None, low=None, high=None, labels=0, covered=0, population=10)


def test_undecided_responses_and_peoples_own_labels_are_apart():
    example = JudgingExample(id="a/m/0", problem_id="a", question="q", response="r", correct=None, policy="m",
                             source="s")
    items = audit.gather([example], [], {}, {})
    found = noise.estimate(items, audit.draw(items, Draw()), labels(items, lambda item: True))
    assert found["undecided"]["correct"].value == 1 and found["overall"] == {}


def test_intervals_are_the_exact_ones_where_weights_are_equal():
    # Known values of Clopper and Pearson: 0 of 20, and 4 of 20.
    assert noise.interval([False] * 20, [3.0] * 20, 0.95) == pytest.approx((0, 0.16843), abs=1e-5)
    assert noise.interval([True] * 4 + [False] * 16, [1.0] * 20, 0.95) == pytest.approx((0.05733, 0.43661), abs=1e-5)
    assert noise.interval([True] * 20, [1.0] * 20, 0.95) == pytest.approx((0.83157, 1), abs=1e-5)


def test_unequal_weights_leave_fewer_labels_effective():
    weights = [1.0] * 20 + [3.0] * 10  # (20 + 30)^2 / (20 + 90) = 22.727 effective labels
    low, high = noise.interval([False] * 30, weights, 0.95)
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 22.72727), rel=1e-5)
    assert noise.interval([True] * 30, weights, 0.95) == pytest.approx((1 - high, 1))
    assert noise.interval([True] * 30, weights, 0.8)[0] > 1 - high  # a lower level is narrower


@pytest.mark.parametrize("counts, sizes, rates", [
    ((40, 20), (900, 100), (0.02, 0.3)),
    ((40, 20), (900, 100), (0.2, 0.6)),
    ((20, 80), (900, 100), (0.1, 0.1)),
    ((5, 50, 5), (500, 50, 20), (0.1, 0.9, 0.02)),
    ((10, 10, 10, 10, 30, 30), (39, 34, 80, 96, 83, 72), (0.5, 0.5, 0.3, 0.3, 0.02, 0.02)),
])
def test_intervals_cover_what_they_should(counts, sizes, rates):
    rng = np.random.default_rng(0)
    weights = np.repeat([size / count for size, count in zip(sizes, counts, strict=True)], counts)
    truth, chances = np.dot(rates, sizes) / sum(sizes), np.repeat(rates, counts)
    bounds = np.array([noise.interval(rng.random(len(chances)) < chances, weights, 0.95) for _ in range(500)])
    assert np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])) >= 0.95
