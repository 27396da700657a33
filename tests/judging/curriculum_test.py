"""Pass rates, bounds and order by hand."""

import dataclasses
from fractions import Fraction

import pytest

from libra_jax.judging.curriculum import CurriculumConfig, Stats, choose, pass_rates
from libra_jax.records import Judgement, JudgingExample

# By letter: c and i are verdicts, u is unparsed. The label of "b" is incorrect, of the others correct.
VERDICTS = {"a": "cccc", "b": "iicu", "c": "iiii", "d": "ciii", "e": "ciiiiiiiii", "f": "cccccccccu", "g": ""}
WORDS = {"c": "correct", "i": "incorrect", "u": "unparsed"}
EXAMPLES = [JudgingExample(id=name, problem_id=name, question="q", response="r", correct=name != "b", policy="p",
                           source="s") for name in VERDICTS]
JUDGEMENTS = [Judgement(example_id=name, judge="j", sample=sample, thought="", verdict=WORDS[letter], num_tokens=1)
              for name, letters in VERDICTS.items() for sample, letter in enumerate(letters)]


def names(**fields):
    return "".join(example.id for example in choose(EXAMPLES, JUDGEMENTS, CurriculumConfig(**fields))[0])


def test_a_pass_rate_is_the_share_of_right_verdicts_and_unparsed_ones_are_wrong():
    assert pass_rates(EXAMPLES, JUDGEMENTS) == {
        "a": 1, "b": Fraction(1, 2), "c": 0, "d": Fraction(1, 4), "e": Fraction(1, 10), "f": Fraction(9, 10)}


@pytest.mark.parametrize("fields, left", [
    ({}, "abcdef"),  # all that were judged
    ({"lowest": 0.1, "highest": 0.9}, "bcdef"),  # both bounds are included, and what was never right stays
    ({"lowest": 0.1, "highest": 0.9, "keep_never_right": False}, "bdef"),
    ({"lowest": 0.2, "keep_never_right": False}, "abdf"),
    ({"highest": 0.0}, "c"),
    ({"lowest": 1.0, "keep_never_right": False}, "a"),
    ({"order": "easy_first"}, "afbdec"),
    ({"order": "easy_first", "lowest": 0.1, "highest": 0.9}, "fbdec")])
def test_bounds_and_order(fields, left):
    assert names(**fields) == left


def test_every_example_is_counted_once():
    found = choose(EXAMPLES, JUDGEMENTS, CurriculumConfig(lowest=0.2, highest=0.8))[1]
    assert found == Stats(unjudged=1, too_hard=1, too_easy=2, chosen=3, never_right=1)
    found = choose(EXAMPLES, JUDGEMENTS, CurriculumConfig(lowest=0.2, highest=0.8, keep_never_right=False))[1]
    assert found == Stats(unjudged=1, too_hard=2, too_easy=2, chosen=2, never_right=0)


def test_equal_rates_are_shuffled_by_the_seed_and_not_by_the_file():
    letters = "abcdefgh"
    examples = [JudgingExample(id=name, problem_id=name, question="q", response="r", correct=True, policy="p",
                               source="s") for name in letters]
    judgements = [Judgement(example_id=name, judge="j", sample=0, thought="", verdict="correct", num_tokens=1)
                  for name in letters]
    orders = [tuple(example.id for example in choose(some, judgements, easy_first)[0])
              for easy_first in (CurriculumConfig(order="easy_first", seed=seed) for seed in (0, 1))
              for some in (examples, examples[::-1])]
    assert orders[0] == orders[1] != orders[2] == orders[3]
    assert sorted(orders[0]) == list(letters) != list(orders[0])


@pytest.mark.parametrize("fields, message", [
    ({"lowest": 0.5, "highest": 0.4}, r"lowest=0\.5, highest=0\.4: expected 0 <= lowest <= highest <= 1"),
    ({"highest": 1.1}, r"highest=1\.1"),
    ({"lowest": 0.6, "highest": 0.8, "keep_never_right": False}, r"no example has a pass rate from 0\.6 to 0\.8: "
     r"1 have no judgement, 4 a lower one, 2 a higher one; widen the bounds")])
def test_bounds_that_leave_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        names(**fields)


def test_judgements_of_other_examples():
    other = Judgement(example_id="x", judge="j", sample=0, thought="", verdict="correct", num_tokens=1)
    assert len(pass_rates(EXAMPLES, [*JUDGEMENTS, other])) == 6
    with pytest.raises(ValueError, match="none of the 1 judgements is of the 7 examples"):
        pass_rates(EXAMPLES, [other])
    unlabelled = dataclasses.replace(EXAMPLES[0], id="x", correct=None)
    with pytest.raises(ValueError, match="example 'x' has no label"):
        pass_rates([unlabelled], [other])
