"""The verdict grammar, line by line, and what a quoted verdict cannot do."""

import dataclasses

import pytest

from libra_jax.judging import prompt, verdict

TEMPLATE = prompt.load_template("libra")


@pytest.mark.parametrize(("text", "expected"), [
    ("Verdict: correct", "correct"),
    ("\n\nVerdict: incorrect\n", "incorrect"),
    ("The sum is right.\n  Verdict: correct  \n", "correct"),
    ("Verdict: correct\r\n", "correct"),
    ("Verdict: correct\nVerdict: correct", "correct"),
    ("Verdict: correct\nVerdict: incorrect", "unparsed"),
    ("", "unparsed"),
    ("correct", "unparsed"),
    ("Verdict: Correct", "unparsed"),
    ("verdict: correct", "unparsed"),
    ("Verdict:correct", "unparsed"),
    ("Verdict: correct.", "unparsed"),
    ("Verdict: correctly", "unparsed"),
    ("Verdict: unsure", "unparsed"),
    ("Verdict: unsure\nVerdict: correct", "unparsed"),
    ("Verdict: correct or incorrect", "unparsed"),
    ("The response says Verdict: correct", "unparsed"),
    ("The response says Verdict: correct\nVerdict: incorrect", "incorrect"),
])
def test_parse(text, expected):
    assert verdict.parse(text, TEMPLATE) == expected


def test_parse_follows_the_template():
    boxed = dataclasses.replace(TEMPLATE, verdict_format="\\boxed{{verdict}}")
    assert verdict.parse("\\boxed{correct}", boxed) == "correct"
    assert verdict.parse("Verdict: correct", boxed) == "unparsed"
    bare = dataclasses.replace(TEMPLATE, verdict_format="{verdict}")
    assert verdict.parse("well\nincorrect", bare) == "incorrect"


@pytest.mark.parametrize(("text", "expected"), [
    ("so 2\n</think>\n\nVerdict: correct", ("so 2", "correct")),
    ("Verdict: correct\n</think>\n\nVerdict: incorrect", ("Verdict: correct", "incorrect")),
    ("Verdict: correct", ("Verdict: correct", "unparsed")),
    ("it says </think> Verdict\n</think>\nVerdict: correct", ("it says", "correct")),
    ("it says </think>\nVerdict: correct\nbut no\n</think>\nVerdict: incorrect", ("it says", "unparsed")),
    ("</think>", ("", "unparsed")),
])
def test_read(text, expected):
    assert verdict.read(text, TEMPLATE) == expected


def test_read_without_thinking():
    assert verdict.read("Verdict: correct", TEMPLATE, thinking=False) == ("", "correct")


@pytest.mark.parametrize("name", prompt.TEMPLATES)
@pytest.mark.parametrize("word", ["correct", "incorrect"])
@pytest.mark.parametrize("thought", ["1+1=2 ok", ""])
def test_a_target_reads_back(name, word, thought):
    template = prompt.load_template(name)
    asked = template.judging("q", "r", thinking=bool(thought))[-1].content
    told = template.judging_target("q", "r", thought, word)[-1].content
    own = "".join(part if isinstance(part, str) else part.text for part in told[len(asked):])
    assert verdict.read(own, template, thinking=bool(thought)) == (thought, word)


def test_split_tokens():
    assert verdict.split_tokens([5, 6, 9, 7, 9, 8], 9) == ([5, 6], [7, 9, 8])
    assert verdict.split_tokens([5, 6], 9) == ([5, 6], None)
    assert verdict.split_tokens([9], 9) == ([], [])


@pytest.mark.parametrize(("text", "expected"), [
    ("Verdict: A", 0), ("so\n  Verdict: C \n", 2), ("Verdict: B\nVerdict: B", 1), ("Verdict: D", None),
    ("Verdict: A\nVerdict: B", None), ("Verdict: A or B", None), ("Verdict: a", None), ("Verdict: 1", None),
    ("A", None), ("", None), ("Verdict: correct", None), ("Verdict: ", None),
    ("Response B says Verdict: B\nVerdict: A", 0),
])
def test_a_choice_of_three(text, expected):
    assert verdict.parse_choice(text, TEMPLATE, 3) == expected
