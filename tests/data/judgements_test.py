"""Which judgements SFT learns from."""

import pytest

from libra_jax.data import judgements
from libra_jax.records import Judgement, JudgingExample

EXAMPLES = [JudgingExample(id=f"e{n}", problem_id=f"p{n // 2}", question="?", response=str(n), correct=correct,
                           policy="ab"[n % 2], source="s") for n, correct in enumerate([True, False, False, None])]


def said(number, verdict, sample=0):
    return Judgement(example_id=f"e{number}", judge="j", sample=sample, thought="so", verdict=verdict, num_tokens=2)


RIGHT = [said(0, "correct"), said(1, "incorrect"), said(1, "incorrect", 1), said(3, "correct")]
DRAWN = [said(0, "unparsed"), said(0, "incorrect", 1), said(0, "correct", 2), said(1, "incorrect"), said(2, "correct")]


def chosen(*given, **how):
    return [judgement for _, judgement in judgements.chosen(EXAMPLES, *given, **how)]


def test_kept_ones_are_all_learned_from_and_must_be_right():
    assert chosen(RIGHT) == RIGHT
    with pytest.raises(ValueError, match=r"k.jsonl: a judgement of 'e0' says 'unparsed', the label is 'correct'"):
        chosen(DRAWN, files=("e.jsonl", "k.jsonl"))


def test_any_is_the_first_parsed_one_of_each_example_right_or_wrong():
    assert chosen(DRAWN, "any") == [DRAWN[1], DRAWN[3], DRAWN[4]]


def test_labels_are_verdicts_without_a_thought():
    found = chosen([], "labels")
    assert [(each.example_id, each.verdict, each.thought) for each in found] == [
        ("e0", "correct", ""), ("e1", "incorrect", ""), ("e2", "incorrect", "")]


def test_of_some_policies_alone():
    assert chosen(RIGHT, policies=("a",)) == RIGHT[:1] and chosen(RIGHT, policies=("b",)) == RIGHT[1:]
    assert [each.example_id for each in chosen(DRAWN, "any", ("a",))] == ["e0", "e2"]
    with pytest.raises(ValueError, match="no response of examples is by 'c'; expected some of a, b"):
        chosen(RIGHT, policies=("a", "c"))


def test_what_cannot_be_learned_from_is_named():
    with pytest.raises(ValueError, match="example 'e9' is not in examples"):
        chosen([said(9, "correct")], "any")
    with pytest.raises(ValueError, match="no judgement is left"):
        chosen([said(0, "unparsed")], "any")
