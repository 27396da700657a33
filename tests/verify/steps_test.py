"""Step arithmetic: what is checked, what is passed over, and the first wrong step."""

import collections
import gzip
import json
import pathlib
import re
from fractions import Fraction

import pytest

from libra_jax.verify import steps


@pytest.mark.parametrize("text, expected", [
    ("2+2 = 4\n3*3 = 6", [True, False]),
    ("2 x 0.5 = <<2*0.5=1.0>>1.0 bolts", [True, True]),
    ("12 - 5 = $<<12-5=8>>8", [False, False]),
    ("80,000+50,000=$130,000", [True]),
    ("$2000x 10/100 = $200", [True]),
    ("150% * 80 = 120 and 18 / 450 x 100 = 4%", [True, True]),
    ("2*3 = 6 = 5+2", [True, False]),
    ("2^3 = 8, (1+2)(3) = 9, -(2-5) = 3", [True, True, True]),
    (r"\(3 \times 4 = 12\), \[ 12 \div 5 = 2.4 \]", [True, True]),
    ("10/3 = 3.33", [True]), ("20/3 = 6.67", [True]), ("20/3 = 6.66", [True]), ("20/3 = 6.68", [False]),
    ("20/3 = 6", [False]), ("80 / 26.666666666666668 = 3", [True]), ("11/18*162=99.00000000000001", [True]),
    ("- 5 + 3 = 8", [True]),  # a bullet
    # A whole number of a thing, where the mark says what it was made of:
    ("56/6 = <<56/6=9.333333333333334>>9 oranges", [True, True]),
    ("100 / $1.5 = <<100/1.5=66.66666666666667>>66 cards", [True, True]),
    ("56/6 = <<56/6=9.333333333333334>>8 oranges", [False, True]), ("56/6 = <<56/6=9>>9", [False, False]),
    # Units, and shares of a number:
    ("90 cards / 30 cards * 100% = 50%", [False]), ("8 sapphires * $800/sapphire = $6400", [True]),
    ("5 cents/sentence * 10 sentences = 500 cents", [False]), ("10 cats - 4 - 2 = 4", [True]),
    ("15 pounds / (1/4 pound/book) = 45 books", [False]), ("3 + 4 = 5 apples + 3 pears", [False]),
    ("25% of 100 riders = 0.25 riders", [False]), ("1/2 of 20 + 3 = 13", [True]),
    ("1 hour = 60 * 60 = 3600 seconds", [True]), ("3/2 hours = 0.5 hours", [False]),
    ("3 eggs = 2 eggs + 2 eggs", [False]),
    ("18 / 100% = 0.18", [True]), ("2 feet + 6 inches = 30 inches", []), ("$5 - 50 cents = $4.50", []),
    ("30 minutes * 2 = 1 hour", []),
    # LaTeX:
    (r"\frac{3}{4} + \frac{1}{4} = 1", [True]), (r"2 \cdot \dfrac{3 + \frac{1}{2}}{2} = 4", [False]),
    (r"\left(2 + 3\right) \cdot 2^{3} = 40", [True]), (r"3 \text{ cm} \cdot 4 \text{ cm} = 13 \text{ cm}", [False]),
    # Not plain arithmetic:
    ("f(3) + 2 = 9", []), ("2x + 3 = 7", []),
    ("x + 7 = 8 + 7", []), ("12 = 2 * 3 y", []), ("x = 5", []), ("5 = 6", []), ("5/0 = 0", []),
    (r"3\frac{1}{2} + 1 = 4.5", []), (r"12 = 3 \cdot \frac{x}{2}", []), ("6 / 2 : 3 / 4 = 4 : 1", []),
    ("120 / 6 = 4!", []), ("1 + 2 + ... + 9 + 10 = 55", []), (r"63 \div 5 = 12 \text{ remainder } 3", []),
    ("63 / 5 = 12 remainder 3", []), ("5 and 6 + 1 = 7", [True]),
    ("of the 3 countries is -48+21+-3 = -30", []),
    ("9^9^9^9 = 1", []), ("(" * 5000 + "1 + 1 = 2", []), ("", []),
])
def test_steps(text, expected):
    assert [step.correct for step in steps.steps(text)] == expected


def test_first_wrong_says_where_and_what():
    text = "She has 3 * 4 = 12 eggs.\nShe sells 12 - 5 = 8 of them, so 8 * 2 = 17 dollars."
    wrong = steps.first_wrong(text)
    assert (wrong.text, wrong.left, wrong.right) == ("12 - 5 = 8", Fraction(7), Fraction(8))
    assert text[wrong.start:].startswith("12 - 5")
    assert steps.first_wrong("3 * 4 = 12") is None


@pytest.mark.parametrize("wrong", [
    r"\frac{1}{2} + \dfrac{1}{2} = 2", r"\left(2 + 3\right) \cdot 2^{3} = 41",
    r"3 \text{ cm} \cdot \frac{4 + 2}{3} = 7",
    r"2 \cdot \left(1 + 1\right) = 2^{3}", "100 / $1.5 = <<100/1.5=66.7>>66.9"])
def test_a_step_is_told_as_it_was_written(wrong):
    text = f"so that, at last, {wrong}"
    step = steps.first_wrong(text)
    assert step.text == wrong and text[step.start:] == wrong


def solutions(shared):
    with gzip.open(shared / "rollouts/gsm8k_gpt3_solutions.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def numbers(text):
    return re.findall(r"\d+\.?\d*", re.sub(r"<<.*?>>", "", text).replace(",", ""))


def test_labelled_real_solutions(shared):
    real = solutions(shared)
    labels = [json.loads(line) for line in pathlib.Path(__file__).with_name("step_labels.jsonl").open()]
    counts, same_place = collections.Counter(), 0
    for label in labels:
        wrong = steps.first_wrong(real[label["problem"]][label["policy"]]["solution"])
        counts[label["sample"], label["wrong"], wrong is not None] += 1
        same_place += bool(label["wrong"] and wrong and numbers(wrong.text) == numbers(label["text"]))
    assert counts == {(1, True, True): 47, (1, True, False): 1, (1, False, True): 2, (1, False, False): 100,
                      (2, True, True): 16, (2, False, True): 1, (2, False, False): 33,
                      (3, True, True): 28, (3, True, False): 1, (3, False, True): 1, (3, False, False): 120}
    assert same_place >= 90  # of 91; one solution's first slip is of dates, "December 2013 - December 2012 = 2 years"


def test_correct_real_solutions_have_few_wrong_steps(shared):
    counts = {True: [0, 0], False: [0, 0]}
    for row in solutions(shared):
        for solution in list(row.values())[2:]:
            count = counts[solution["is_correct"]]
            count[0] += 1
            count[1] += steps.first_wrong(solution["solution"]) is not None
    # Nine are real slips in responses whose answers are right all the same ("3/2 = 0.5"); "24 eggs in 1 tray x 2 trays
    # = 48" is misread.
    assert counts[True][1] <= 10 and counts[False][1] >= 95


def test_mathematics_has_one_wrong_step(shared):
    with gzip.open(shared / "rollouts/math_qwen2.5_math.jsonl.gz", "rt") as lines:
        found = [step for line in lines for text in json.loads(line)["response"] for step in steps.steps(text)]
    assert [step.text for step in found if not step.correct] == ["29 - 10 - 1 = 19"]  # it is 18
    assert len(found) >= 1200
