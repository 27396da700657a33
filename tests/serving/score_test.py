"""Scoring requests and answers as data."""

import json

import pytest

from libra_jax.judges.model import stable_id
from libra_jax.serving import score
from libra_jax.serving.http import Refused

ITEM = {"question": "1+1?", "response": "2"}


def ask(judge, longest=100, **fields):
    return score.ask(json.dumps({"items": [ITEM]} | fields).encode(), judge, 3, 8, longest)


def test_items_become_prompts_seeded_by_their_texts_or_their_id(silent):
    found = ask(silent, items=[ITEM, ITEM | {"id": "a"}, ITEM | {"response": "3"}], votes=2, seed=7, temperature=0,
                max_tokens=5, thoughts=True)
    assert (found.votes, found.seed, found.temperature, found.budget, found.thoughts) == (2, 7, 0.0, 5, True)
    assert found.prompts[0] == found.prompts[1] != found.prompts[2]
    assert found.prompts[0] == silent.prompt(found.examples[0])
    seeds = [score.seed_id(example) for example in found.examples]
    assert seeds[1] == stable_id("a") and len(set(seeds)) == 3
    assert score.seed_id(ask(silent).examples[0]) == seeds[0]
    assert (ask(silent).votes, ask(silent).seed, ask(silent).budget, ask(silent).thoughts) == (1, 0, 48, False)


@pytest.mark.parametrize("fields, said", [
    ({"items": []}, "items: expected a list of 1 to 3"), ({"items": [ITEM] * 4}, "found a list of 4"),
    ({"items": {}}, "items: .*found an object"), ({"items": ["x"]}, r"items\[0\]: expected a JSON object"),
    ({"items": [{"question": "x"}]}, r"items\[0\]\.response: expected a string; it is missing"),
    ({"items": [ITEM | {"answer": "2"}]}, r"items\[0\]\.answer: not supported"),  # no reference reaches the judge
    ({"items": [ITEM, {"question": 1, "response": "x"}]}, r"items\[1\]\.question: expected a string; found 1"),
    ({"items": [ITEM | {"response": "x" * 300}]}, r"items\[0\]: \d+ tokens; expected at most 100"),
    ({"votes": 9}, "votes: expected a whole number from 1 to 8"), ({"items": [ITEM] * 3, "votes": 3}, "3 items of 3"),
    ({"temperature": 1e-9}, r"temperature: expected 0, or a number from 0\.01 to 100"),
    ({"temperature": 10**400}, "temperature"),
    ({"x" * 10**6: 1}, "x{60}: not supported"),
    ({"vote": 1}, "vote: not supported here; did you mean votes"), ({"seed": 1.5}, "seed"),
])
def test_what_is_wrong_is_named(silent, fields, said):
    with pytest.raises(Refused, match=said) as caught:
        ask(silent, **fields)
    assert caught.value.status == 400 and len(str(caught.value)) < 500


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"[]", b"null", b'"x"'])
def test_a_body_that_is_no_object_is_refused(silent, body):
    with pytest.raises(Refused, match="body") as caught:
        score.ask(body, silent, 3, 8, 100)
    assert caught.value.status == 400


def test_scores_are_shares_of_parsed_verdicts(silent):
    def says(text):
        return [*silent.tokenizer.encode("hm"), silent.tokenizer.control("</think>"), *silent.tokenizer.encode(text)]

    asked = ask(silent, items=[ITEM, ITEM | {"response": "3"}], votes=3, thoughts=True)
    drawn = [[says("Verdict: correct"), says("Verdict: incorrect"), says("what?")], [says("")] * 3]
    found = score.answer(silent, asked, drawn)
    assert found["scores"] == [0.5, None]
    assert found["verdicts"] == [["correct", "incorrect", "unparsed"], ["unparsed"] * 3]
    assert found["tokens"] == [[19, 21, 8], [3, 3, 3]] and found["thoughts"] == [["hm"] * 3] * 2
    assert found["usage"] == {"prompt_tokens": sum(map(len, asked.prompts)), "completion_tokens": 57,
                              "total_tokens": sum(map(len, asked.prompts)) + 57}
