"""Paired tests: McNemar against scipy, the bootstrap against theory, Holm over all pairs."""

import numpy as np
import pytest
from scipy import stats

from libra_jax.bench import paired, power, score
from libra_jax.bench.significance import Bootstrap
from libra_jax.records import Judgement, JudgingExample


def examples(count, per_problem=1):
    return [JudgingExample(id=f"{n}", problem_id=f"{n // per_problem}", question="q", response="r", correct=n % 2 == 0,
                           policy="p", source="s") for n in range(count)]


def judge(right, votes=1):
    """Judgements that are right where `right` says so."""
    return [Judgement(example_id=f"{n}", judge="j", sample=sample, thought="", num_tokens=1,
                      verdict="correct" if (n % 2 == 0) == bool(each) else "incorrect")
            for n, each in enumerate(right) for sample in range(votes)]


@pytest.mark.parametrize("only_first, only_second", [(1, 5), (5, 1), (0, 0), (3, 3), (0, 7), (12, 40), (900, 1100)])
def test_mcnemar_is_scipys_binomial_test(only_first, only_second):
    total = only_first + only_second
    expected = stats.binomtest(only_first, total).pvalue if total else 1.0
    assert paired.mcnemar(only_first, only_second) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_thousands_is_still_a_number():
    assert paired.mcnemar(9_000, 11_000) == pytest.approx(stats.binomtest(9_000, 20_000).pvalue, rel=1e-6)


def test_a_comparison_by_hand():
    first = [True, True, False, False, True, False, True, True]
    second = [True, True, True, True, True, True, False, True]
    (found,) = paired.compare(examples(8), {"a": judge(first), "b": judge(second)})
    assert (found.first, found.second, found.value) == ("a", "b", pytest.approx(2 / 8))
    assert (found.only_first, found.only_second) == (1, 3)
    assert found.p_mcnemar == found.p_mcnemar_holm == pytest.approx(2 * (1 + 4) / 2**4)
    assert found.low < 0.25 < found.high and found.p == found.p_holm > 0.05
    same = score.difference(examples(8), judge(first), judge(second))
    assert (found.low, found.high) == pytest.approx((same.low, same.high))


def test_a_majority_decides_and_a_tie_decides_nothing():
    votes = [("0", "correct"), ("0", "correct"), ("0", "incorrect"), ("1", "incorrect"), ("1", "correct"),
             ("2", "unparsed"), ("2", "correct"), ("3", "unparsed"), ("3", "unparsed")]
    given = [Judgement(example_id=id, judge="j", sample=sample, thought="", verdict=verdict, num_tokens=1)
             for sample, (id, verdict) in enumerate(votes)]
    assert paired.decided_right(score.tabulate(examples(4), given)).tolist() == [True, False, True, False]


def test_p_agrees_with_the_t_test_where_examples_are_independent():
    rng = np.random.default_rng(0)
    first = rng.random(300) < 0.6
    second = np.where(rng.random(300) < 0.8, first, rng.random(300) < 0.8)
    (found,) = paired.compare(examples(300), {"a": judge(first), "b": judge(second)}, Bootstrap(num_resamples=20_000))
    expected = stats.ttest_rel(second.astype(float), first.astype(float)).pvalue
    assert found.p == pytest.approx(expected, rel=0.25)


def test_copies_of_responses_fool_mcnemar_and_not_the_bootstrap():
    rng = np.random.default_rng(3)
    first, second = rng.random(60) < 0.6, rng.random(60) < 0.7
    (once,) = paired.compare(examples(60), {"a": judge(first), "b": judge(second)})
    (many,) = paired.compare(examples(600, per_problem=10),
                             {"a": judge(np.repeat(first, 10)), "b": judge(np.repeat(second, 10))})
    assert many.p == pytest.approx(once.p, abs=0.03) and many.value == pytest.approx(once.value)
    assert many.p_mcnemar < 0.01 < once.p_mcnemar


def test_equal_judges_are_wrongly_told_apart_in_one_of_twenty_benches():
    rng, told, mcnemar, count = np.random.default_rng(4), 0, 0, 300
    for _ in range(count):
        ease = rng.random(60)  # each judge wins and loses whole problems
        first, second = (np.repeat(ease + 0.3 * rng.standard_normal(60), 4) + 0.1 * rng.standard_normal(240) > 0.4
                         for _ in range(2))
        (found,) = paired.compare(examples(240, per_problem=4), {"a": judge(first), "b": judge(second)},
                                  Bootstrap(num_resamples=200))
        told += found.p < 0.05
        mcnemar += found.p_mcnemar < 0.05
    assert 0.02 <= told / count <= 0.09 and mcnemar / count > 0.15


def test_all_pairs_are_corrected_together_and_any_metric_is_compared():
    rng = np.random.default_rng(5)
    by = {"a": judge(rng.random(200) < 0.5), "b": judge(rng.random(200) < 0.75), "c": judge(rng.random(200) < 0.8)}
    found = paired.compare(examples(200), by, Bootstrap(num_resamples=500))
    assert [(each.first, each.second) for each in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found[0].p_holm == pytest.approx(min(1, 3 * found[0].p)) and found[2].p_holm >= found[2].p
    recall = paired.compare(examples(200), by, Bootstrap(num_resamples=50), metric="f1_incorrect")
    values = {name: score.evaluate(name, examples(200), some).metrics["f1_incorrect"].value
              for name, some in by.items()}
    assert recall[0].value == pytest.approx(values["b"] - values["a"])
    with pytest.raises(ValueError, match=r"acuracy.*accuracy"):
        paired.compare(examples(200), by, metric="acuracy")


def test_a_metric_that_is_undefined_has_no_test():
    (found,) = paired.compare(examples(8), {"a": judge([True] * 8), "b": judge([False] * 8)}, metric="auroc")
    assert (found.value, found.low, found.p, found.p_holm) == (None, None, None, None)
    (single,) = paired.compare(examples(4, per_problem=4), {"a": judge([True] * 4), "b": judge([False] * 4)},
                               target=power.Target(points=(1.0,)))
    assert single.value == -1 and single.low is None and single.p is None and single.power.problems == {"1": None}
