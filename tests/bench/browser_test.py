"""The browser of examples: what is chosen, what each card says, that text stays text."""

import re

import pytest

from libra_jax.bench import browser
from libra_jax.records import Judgement, JudgingExample


def example(id="e", correct=True, text="r", source="s"):
    return JudgingExample(id=id, problem_id="p", question=text, response=text, correct=correct, policy="poet",
                          source=source)


def judgements(*verdicts, judge="j", id="e", thought="hm", score=None):
    return [Judgement(example_id=id, judge=judge, sample=sample, thought=thought, verdict=verdict, num_tokens=7,
                      score=score) for sample, verdict in enumerate(verdicts)]


@pytest.mark.parametrize("verdicts, decision", [
    (["correct"], "correct"), (["correct", "incorrect", "incorrect"], "incorrect"), (["correct", "incorrect"], "tied"),
    (["unparsed", "unparsed", "correct"], "correct"), (["unparsed"], "unparsed"), ([], "unparsed")])
def test_a_majority_of_parsed_judgements_decides(verdicts, decision):
    assert browser.decision(judgements(*verdicts)) == decision


def test_a_card_has_label_verdicts_and_texts_side_by_side():
    said = {"good": judgements("correct", score=0.75), "bad": judgements("incorrect", "incorrect", "correct")}
    page = browser.section([example(text="one <two> $x^2$")], said, 5)
    assert '<details class="example" data-label="correct" data-source="0" data-split="1">' in page
    chips = re.findall(r'data-judge="(\d)" data-verdict="(\w+)" data-right="(\d)" title="(\w+)">.*?</i>(.*?)</span>',
                       page)
    assert chips == [("0", "correct", "1", "good", "✓ correct"), ("1", "incorrect", "0", "bad", "✗ incorrect 2/3")]
    assert "sample 0: correct, 7 tokens, score 0.750" in page and "sample 2: correct, 7 tokens" in page
    assert page.count("one &lt;two&gt; <math>") == 2 and "Response of poet" in page
    assert "All 1 examples" in page


def test_many_votes_are_cut_and_counted():
    page = browser.section([example()], {"j": judgements(*["correct"] * (browser.MOST_VOTES + 3))}, 5)
    assert page.count('class="said"') == browser.MOST_VOTES and "and 3 more judgements" in page


def test_the_examples_are_chosen_by_hash_whatever_the_results():
    some = [example(id=f"{n}", correct=n % 2 == 0) for n in range(50)]
    chosen = [each.id for each in browser.choose(some, 10)]
    other = [example(id=f"{n}", correct=n % 3 == 0, text="other") for n in reversed(range(50))]
    assert chosen == [each.id for each in browser.choose(other, 10)] and len(set(chosen)) == 10
    page = browser.section(some, {"j": [each for n in range(50) for each in judgements("correct", id=f"{n}")]}, 10)
    assert page.count("<details") == 10 and "10 of 50 examples, chosen by the hashes" in page


def test_filters_offer_judges_and_sources_by_number():
    page = browser.section([example(source='<s">')], {"<j>": judgements("correct")}, 5)
    assert '<option value="0">&lt;j&gt;</option>' in page and '<option value="0">&lt;s&quot;&gt;</option>' in page
    assert '<form id="filters" hidden>' in page  # until the script that serves it runs
