"""What a server's body means: thought, verdict, score and usage; and that no body breaks the reader."""

import json
import math

import pytest

from libra_jax.judges import answers
from libra_jax.judging.prompt import load_template

TEMPLATE = load_template("libra")


def read(body):
    return answers.read(body if isinstance(body, bytes) else json.dumps(body).encode(), TEMPLATE)


@pytest.mark.parametrize("message, expected", [
    ({"content": "So it is.\nVerdict: correct"}, ("", "correct")),
    ({"content": "Verdict: incorrect", "reasoning_content": " 1+1=2 \n"}, ("1+1=2", "incorrect")),
    ({"content": "Verdict: incorrect", "reasoning": "hm"}, ("hm", "incorrect")),
    ({"content": "Verdict: incorrect", "reasoning_content": None, "reasoning": ""}, ("", "incorrect")),
    ({"content": "<think>\nVerdict: correct\n</think>\n\nVerdict: incorrect"}, ("Verdict: correct", "incorrect")),
    ({"content": "hm </think>Verdict: correct"}, ("hm", "correct")),  # the server's template opened the thought
    ({"content": "\n<think>Verdict: correct\nand on and on"}, ("Verdict: correct\nand on and on", "unparsed")),
    ({"content": "", "reasoning_content": "Verdict: correct"}, ("Verdict: correct", "unparsed")),
    ({"content": None, "reasoning_content": "Verdict: correct"}, ("Verdict: correct", "unparsed")),
    ({"content": "It says </think>\nVerdict: correct\nwhich is no verdict.\nVerdict: incorrect"},
     ("It says", "unparsed")),  # a quoted close can spoil a verdict, never turn it
    ({"content": "Verdict: correct\n<think>"}, ("", "correct")),
    ({"content": "I cannot help with that."}, ("", "unparsed")),
])
def test_the_thought_is_taken_apart_and_the_verdict_is_read_behind_it(chat, message, expected):
    found = read(chat(**message))
    assert (found.thought, found.verdict) == expected
    assert found.usage == (100, 10) and found.score is None


def test_an_answer_cut_at_its_maximum_of_tokens_is_no_fault_of_the_server(chat):
    cut = chat(None)
    cut["choices"][0]["finish_reason"] = "length"
    assert read(cut).verdict == "unparsed"


@pytest.mark.parametrize("body", [
    b"", b"null", b"[]", b"{}", b'"Verdict: correct"', b"{", b"<html>busy</html>", b"\xff\xfe", b"[" * 200_000,
    b'{"a":' * 100_000, b'{"choices": ' + b"9" * 5000 + b"}", b'{"choices": null}', b'{"choices": []}',
    b'{"choices": {}}', b'{"choices": [null]}', b'{"choices": [{}]}', b'{"choices": [{"message": null}]}',
    b'{"choices": [{"message": []}]}', b'{"choices": [{"message": "Verdict: correct"}]}',
    b'{"choices": [{"message": {}}]}', b'{"choices": [{"message": {"content": null}}]}',
    b'{"choices": [{"message": {"content": 1}}]}', b'{"choices": [{"message": {"content": true}}]}',
    b'{"choices": [{"message": {"content": ["Verdict: correct"]}}]}',
    b'{"choices": [{"message": {"content": "Verdict: correct", "reasoning_content": 5}}]}',
    b'{"error": {"message": "overloaded"}, "choices": null}',
])
def test_other_shapes_are_bad_shapes(body):
    with pytest.raises(answers.BadShape) as caught:
        read(body)
    assert len(str(caught.value)) < 1500 and "\n" not in str(caught.value)


def test_a_bad_shape_still_says_what_it_cost():
    with pytest.raises(answers.BadShape) as caught:
        read({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    assert caught.value.usage == (7, 3)


@pytest.mark.parametrize("usage, expected", [
    (None, (0, 0)), ([], (0, 0)), ("x", (0, 0)), ({}, (0, 0)), ({"prompt_tokens": 5}, (5, 0)),
    ({"prompt_tokens": True, "completion_tokens": 2.5}, (0, 0)),
    ({"prompt_tokens": -1, "completion_tokens": "9"}, (0, 0)),
    ({"prompt_tokens": 10**30, "completion_tokens": 4, "total_tokens": 0}, (0, 4)),
])
def test_only_credible_usage_counts(chat, usage, expected):
    assert read(chat("Verdict: correct") | {"usage": usage}).usage == expected


def token(text, *others):
    return {"token": text, "logprob": -0.1, "top_logprobs": [
        {"token": name, "logprob": math.log(share) if share else -1e9} for name, share in others]}


HEAD = [token("Hm. Verdict: correct?"), token("\n"), token("Verdict"), token(":")]


@pytest.mark.parametrize("tokens, word, expected", [
    ([*HEAD, token(" correct", (" correct", 0.6), (" incorrect", 0.2), (" the", 0.2))], "correct", 0.75),
    ([*HEAD, token(" in", (" in", 0.5), (" correct", 0.25), (" cor", 0.25)), token("correct")], "incorrect", 0.5),
    ([*HEAD, token(" "), token("c", ("c", 0.9), ("i", 0.1)), token("orrect")], "correct", 0.9),
    ([token("Verdict: correct", ("Verdict: correct", 0.8), ("Verdict: incorrect", 0.2), ("Ver", 0.0))], "correct", 0.8),
    ([*HEAD, token(" correct\n", (" correct\n", 0.7), (" incorrect\n", 0.0))], "correct", 1.0),
    ([*HEAD, token(" correct")], "correct", None),
    ([*HEAD, token(" correct", (" the", 1.0))], "correct", None),
    (HEAD, "incorrect", None),
    ([], "correct", None),
])
def test_the_score_is_the_probability_at_the_last_verdict(tokens, word, expected):
    found = answers.probability({"content": tokens}, TEMPLATE, word)
    assert found is None if expected is None else found == pytest.approx(expected)


@pytest.mark.parametrize("logprobs", [
    None, [], {}, "x", {"content": None}, {"content": [None]}, {"content": [{}]}, {"content": "Verdict: correct"},
    {"content": [{"token": "Verdict: correct", "top_logprobs": None}]},
    {"content": [{"token": "Verdict: correct", "top_logprobs": [{"token": "Verdict: correct"}]}]},
    {"content": [{"token": "Verdict: correct", "top_logprobs": [{"token": "Verdict: correct", "logprob": "x"}]}]},
    {"content": [{"token": "Verdict: correct", "top_logprobs": [{"token": "Verdict: correct", "logprob": -10**400}]}]},
    {"content": [{"token": "Verdict: correct",
                  "top_logprobs": [{"token": "Verdict: correct", "logprob": float("nan")}]}]},
    {"content": [{"token": "Verdict: correct",
                  "top_logprobs": [{"token": "Verdict: correct", "logprob": float("-inf")}]}]},
])
def test_other_probabilities_give_no_score(logprobs):
    assert answers.probability(logprobs, TEMPLATE, "correct") is None


def test_a_score_comes_with_the_answer_where_a_verdict_does(chat):
    said = chat("Verdict: correct")
    said["choices"][0]["logprobs"] = {"content": [token("Verdict: correct", ("Verdict: correct", 0.5))]}
    assert read(said).score == 1.0
    said["choices"][0]["message"]["content"] = "Verdict: perhaps"
    assert read(said).score is None
