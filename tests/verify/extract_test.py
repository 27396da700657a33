"""Where the final answer of a response stands, and that no text makes looking for it slow."""

import time

import pytest

from libra_jax.verify import extract


@pytest.mark.parametrize("text, expected", [
    (r"so \boxed{1} and then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
    (r"\boxed{\left\{x \mid x>0\right\}}", r"\left\{x \mid x>0\right\}"),
    (r"\boxed{\text{a \} b}}", r"\text{a \} b}"),
    (r"\boxed 7 is it", "7"),
    (r"A: 3 but \boxed{4}", "4"),
    (r"\boxed{4}. Or was it \boxed{5", "4"),
    (r"\boxed{never closed", None),
    (r"f = { open \boxed{3}", "3"),
    (r"f = { open \boxed{3} } closed }", "3"),
    (r"\\boxed{3}", None),
    (r"\\\boxed{3}", "3"),
    (r"\boxed{\boxed{5}}", "5"),
    (r"$x = \boxed{3}$ or $x = \boxed{5}$.", "3, 5"),
    (r"\boxed{3} apples. Then, much later in the text, \boxed{5}", "5"),
    (r"\boxed{4}.\] The answer is \(\boxed{4}\).", "4"),
    (r"\boxed{} = 4 and \boxed{\phantom{2}} \boxed{4}", "4"),
    ("2+2=4\n#### 1,200", "1,200"),
    ("## Step\n### Sub\n##### 5", None),
    ("steps\nA: 18", "18"),
    ("steps\nA: 18\nA: 19", "19"),
    ("**Answer:** $x^2$.", "x^2"),
    ("Answer:\n\n$42$", "42"),
    ("Hence the answer is 42.", "42"),
    ("The answer is 3.5. I checked it.", "3.5"),
    ("The final answer is: $(2, 3)$. I hope it is correct.", "(2, 3)"),
    ("The answer to the question is 7", "7"),
    ("first the answer is 1. Then the answer is: 2", "2"),
    ("She leaves at 4. The answer is 4:30 p.m.", "4:30 p.m."),
    ("the sum is 12", None),
    ("a: 5", None),
    ("", None),
])
def test_extract(text, expected):
    assert extract.extract(text) == expected


@pytest.mark.parametrize("piece", [
    "x", " ", "\n", "\\boxed{", "\\boxed{}", "{", "}", "\\boxed ", "answer is", "Answer:\n", "A:\n", "#### \n", ". ",
    "answer to ", "$", "\\boxed{1},", "I hope ", "answer is" + " " * 999, ">"])
def test_a_megabyte_of_anything_is_read_in_a_moment(piece):
    text = piece * (1_000_000 // len(piece))
    start = time.monotonic()
    extract.extract(text)
    assert time.monotonic() - start < 4
