"""Formulas in text: found where they are, dollars left alone, everything else escaped."""

import gzip
import json
import random
import re
import time

import pytest

from libra_jax.bench import formulas


def shown(text):
    """The text with each formula as [source]."""
    return re.sub(r"<math.*?<annotation[^>]*>(.*?)</annotation></semantics></math>", r"[\1]", formulas.render(text))


@pytest.mark.parametrize("text, expected", [
    ("so $x^2$ is", "so [x^2] is"),
    (r"so \(x\) and \[y\] and $$z$$", "so [x] and [y] and [z]"),
    ("the answer is $5$.", "the answer is [5]."),
    ("a\n$$x$$\nb", "a[x]b"),  # a block of its own needs no line ends
    (r"\begin{align*}a&=b\end{align*}", r"[\begin{align*}a&amp;=b\end{align*}]"),
    (r"costs \$5 and $x$", r"costs \$5 and [x]"),
    ("an open $x and no more", "an open $x and no more"),
    (r"$\unknown{x}$ then $y$", r"$\unknown{x}$ then [y]"),
    (r"$\text{two words here}$", r"[\text{two words here}]"),
    ("a < b & c", "a &lt; b &amp; c"),
])
def test_formulas_are_found(text, expected):
    assert shown(text) == expected


@pytest.mark.parametrize("text", [
    "It costs $5 and $10 more.", "He pays $20+$5 = $25", "spent $15000/3=$5000", "between $5-$10", "$ 5 $",
    "$5 for each apple and sells it at a profit of 3$", "$1.25+$1.5+$1= $3.75", "$x\n\ny$", "", "$", "$$", "$$$$",
])
def test_amounts_of_money_stay_text(text):
    assert formulas.render(text) == text


def test_markup_in_text_is_escaped_around_and_within_formulas():
    evil = "<script>alert(1)</script>$<img src=x onerror=alert(1)>$</div>$$</annotation></math><script>$$"
    page = formulas.render(evil)
    assert not re.search(r"<(?!/?(math|semantics|mrow|mi|mo|mn|annotation)\b)", page)
    assert "onerror=alert(1)&gt;" in page


def test_hostile_text_ends_at_once():
    rng = random.Random(0)
    pieces = ["$", "$$", r"\(", r"\[", r"\)", r"\]", r"\begin{align}", r"\end{align}", "{", "}", "\\", "x ", "\n",
              "<b>"]
    hostile = ["$" * 12_000, r"\(" * 6_000, r"\begin{align}" * 900, "$x " * 4_000, "$a b" * 3_000]
    hostile += ["".join(rng.choices(pieces, k=3_000)) for _ in range(200)]
    start = time.process_time()
    for text in hostile:
        page = formulas.render(text)
        assert not re.search(r"<(?!/?(math|semantics|mtable|mtr|mtd|mrow|mi|mo|mn|mspace|annotation)\b)", page)
    assert time.process_time() - start < 20


def test_a_text_of_many_refused_formulas_stays_text():
    refused = r"\(\unknown\)"
    assert "<math" in formulas.render(refused * (formulas.MOST_REFUSED - 1) + "$x$")
    assert "<math" not in formulas.render(refused * formulas.MOST_REFUSED + "$x$")


def test_real_responses_are_shown(shared):
    found = understood = 0
    with gzip.open(shared / "rollouts/math_qwen2.5_math.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            for text in row["response"]:
                page = formulas.render(text)
                understood += page.count("<math")
                found += page.count("<math") + len(re.findall(r"\\\(|\\\[|\\begin\{align",
                                                              re.sub(r"<math.*?</math>", "", page, flags=re.DOTALL)))
    assert found > 5_000 and understood / found > 0.995


def test_real_amounts_of_money_stay_text(shared):
    count = 0
    with gzip.open(shared / "rollouts/gsm8k_gpt3_solutions.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            for text in (row["question"], row["175b_verification"]["solution"]):
                count += formulas.render(text).count("<math")
    assert count == 0
