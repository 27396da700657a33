"""The judge as a reward function: TRL's and verl's signatures, by URL and by checkpoint."""

import inspect
import json
import pathlib
import random
import subprocess
import sys

import pytest

from libra_jax.judges import trainers
from libra_jax.miniature import arithmetic

CHECKPOINT = pathlib.Path(arithmetic.__file__).parent / "checkpoint"
QUESTIONS = ["What is 8 + 5?", "What is 8 + 5?", "What is 9 - 4?"]
RESPONSES = ["8+5=13\nA: 13", "8+5=12\nA: 12", "9-4=5\nA: 5"]
ANSWERS = ["THE-REFERENCE"] * 3


class Recorder:
    """A scorer that gives what a test wants and notes what it was asked."""

    def __init__(self, *scores):
        self.given, self.pairs = list(scores), []

    def scores(self, pairs):
        self.pairs += pairs
        return [self.given.pop(0) for _ in pairs]


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


def test_strings_and_conversations_are_the_same_pairs_and_no_reference_is_among_them():
    plain, chats = Recorder(1.0, 0.0, 0.5), Recorder(1.0, 0.0, 0.5)
    extra = {"answer": ANSWERS, "solution": ANSWERS, "completion_ids": [[1]] * 3, "trainer_state": None,
             "log_extra": None, "log_metric": None}
    first = trainers.Reward(scorer=plain)(prompts=QUESTIONS, completions=RESPONSES, **extra)
    prompts = [[{"role": "system", "content": "Be brief."}, *user(question)] for question in QUESTIONS]
    second = trainers.Reward(scorer=chats)(prompts=prompts, completions=list(map(assistant, RESPONSES)), **extra)
    assert first == second == [1.0, 0.0, 0.5]
    assert plain.pairs == chats.pairs == list(zip(QUESTIONS, RESPONSES, strict=True))
    assert "THE-REFERENCE" not in json.dumps(plain.pairs)


def test_the_signature_is_trls():
    reward = trainers.Reward(scorer=Recorder())
    names = list(inspect.signature(reward).parameters)
    assert names == ["prompts", "completions", "kwargs"] and reward.__name__ == "libra_judge"
    assert not inspect.iscoroutinefunction(reward) and reward(prompts=[], completions=[]) == []


def test_conversations_of_every_kind():
    turns = [*user("What is 2 + 2?"), *assistant("4"), *user("And 3 more?")]
    assert trainers.asked(turns) == "user: What is 2 + 2?\n\nassistant: 4\n\nuser: And 3 more?"
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert trainers.asked(parts) == "ab"
    assert trainers.asked([{"role": "user", "content": [{"type": "image"}]}]) is None
    calls = [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "7"},
             {"role": "assistant", "content": "so 7"}]
    assert trainers.answered(calls) == "so 7" and trainers.answered(calls[:2]) is None
    assert trainers.answered([{"content": "x"}]) == "x"


def test_what_has_no_text_and_what_has_no_verdict():
    scorer = Recorder(None, 1.0, None, 1.0)
    prompts = [user("a"), user("b"), [{"role": "user", "content": [{"type": "image"}]}]]
    completions = [assistant("x"), assistant("y"), assistant("z")]
    assert trainers.Reward(scorer=scorer)(prompts, completions) == [None, 1.0, None]
    assert trainers.Reward(scorer=scorer, unparsed=-1.0)(prompts, completions) == [-1.0, 1.0, None]
    assert len(scorer.pairs) == 4


def test_a_column_may_hold_the_question():
    scorer = Recorder(1.0)
    reward = trainers.Reward(scorer=scorer, question="problem")
    assert reward(["Solve it. a"], ["x"], problem=["a"], answer=["b"]) == [1.0] and scorer.pairs == [("a", "x")]
    with pytest.raises(ValueError, match="no column 'problem'; expected one of the columns passed: answer"):
        reward(["a"], ["x"], answer=["b"])
    with pytest.raises(ValueError, match="2 prompts and 1 completions"):
        reward(["a", "b"], ["x"])


def test_verl_gets_one_number_and_the_question_from_extra_info():
    scorer = Recorder(0.5, None, None)
    compute_score = trainers.Reward(scorer=scorer).verl
    info = {"question": "q", "answer": "THE-REFERENCE", "num_turns": 2}
    call = {"data_source": "gsm8k", "solution_str": "s", "ground_truth": "THE-REFERENCE", "extra_info": info}
    assert compute_score(**call) == 0.5 and compute_score(**call, reward_router_address="x") == 0.0
    assert trainers.Reward(scorer=scorer, unparsed=-1.0).verl(**call) == -1.0
    assert scorer.pairs == [("q", "s")] * 3
    with pytest.raises(ValueError, match="extra_info has no text 'question'"):
        compute_score("gsm8k", "s", "g", {})
    named = Recorder(1.0)
    trainers.Reward(scorer=named, question="text").verl("gsm8k", "s", None, {"text": "t"})
    assert named.pairs == [("t", "s")]


def answering(server, *said):
    """Lets the server say these in turn, then score every response by whether it holds "13"."""
    left = list(said)

    def answer(request, handler):
        if left:
            return left.pop(0)
        return {"scores": [float("13" in item["response"]) for item in request["items"]]}

    server.answer = answer


def test_a_url_is_asked_in_chunks_and_order(server, monkeypatch):
    monkeypatch.setenv("TEST_TOKEN", "a-secret-token")
    answering(server)
    reward = trainers.from_url(server.url, votes=3, token_env="TEST_TOKEN")
    count = 40
    assert reward(["q"] * count, [str(number) for number in range(count)], answer=ANSWERS * 14) == [
        float(number == 13) for number in range(count)]
    assert sorted(len(request["items"]) for request in server.requests) == [8, 16, 16]
    assert all(request["votes"] == 3 and set(request) == {"items", "votes"} for request in server.requests)
    assert {path for path, _ in server.headers} == {"/v1/score"}
    assert {headers["Authorization"] for _, headers in server.headers} == {"Bearer a-secret-token"}
    assert "a-secret-token" not in repr(reward)
    with pytest.raises(ValueError, match="TEST_OTHER"):
        trainers.from_url(server.url, token_env="TEST_OTHER")
    with pytest.raises(ValueError, match="url"):
        trainers.from_url("ftp://x")


def test_a_busy_server_is_asked_again_and_a_wrong_one_ends_the_run(server):
    answering(server, (429, {"Retry-After": "0"}, b"busy"), (503, {"Retry-After": "0"}, b"stopping"))
    assert trainers.from_url(server.url)(["q"], ["13"]) == [1.0] and len(server.requests) == 3
    answering(server, (400, {}, b"items: too many"))
    with pytest.raises(trainers.ServerError, match=r"HTTP 400: items: too many"):
        trainers.from_url(server.url)(["q"], ["13"])
    answering(server, *[(500, {"Retry-After": "0"}, b"broken")] * 3)
    with pytest.raises(trainers.ServerError, match=r"attempts: 2\): HTTP 500: broken"):
        trainers.from_url(server.url, retries=1)(["q"], ["13"])
    for wrong in ({"scores": []}, {"scores": ["1"]}, {"scores": [2]}, [], b"no"):
        answering(server, wrong)
        with pytest.raises(trainers.ServerError, match="something else than 1 scores"):
            trainers.from_url(server.url)(["q"], ["13"])
    with pytest.raises(trainers.ServerError, match="ConnectionRefusedError"):
        trainers.from_url("http://127.0.0.1:1", retries=0)(["q"], ["13"])


def test_a_url_needs_no_jax():
    code = ("import sys; from libra_jax.judges import trainers; trainers.from_url('http://127.0.0.1:1'); "
            "print(sorted({'jax', 'numpy', 'flax', 'tokenizers', 'tensorflow'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_checkpoint_scores_each_pair_alike_whatever_is_beside_it():
    reward = trainers.from_checkpoint(CHECKPOINT, votes=4, max_new_tokens=32, batch_size=16)
    questions = [problem.question for problem in arithmetic.problems(0, 6)]
    responses = [arithmetic.solution(question, random.Random(number), slip=number % 2)[0]
                 for number, question in enumerate(questions)]
    found = reward(questions, responses, answer=["THE-REFERENCE"] * 6)
    assert len(set(found)) > 1 and all(score is None or 0 <= score <= 1 for score in found)
    assert reward(questions[::-1], responses[::-1]) == found[::-1]
    assert reward(questions[4:], responses[4:]) == found[4:]


def test_a_checkpoint_computes_as_asked():
    reward = trainers.from_checkpoint(CHECKPOINT, template="miniature", compute_dtype="bfloat16", thinking=False)
    judge = reward.scorer.backend
    assert judge.model_config.dtype == "bfloat16" and not judge.config.thinking
    assert judge.config.sampling.num_samples == 1
