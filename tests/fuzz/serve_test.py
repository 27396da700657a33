"""A judge as a service: any request is understood or refused in few words, and no text brings a control token."""

import json

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models, pre_tokenizers

from libra_jax.judges import model
from libra_jax.judging.prompt import load_template
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.serving import chat, http, score
from libra_jax.text import tokenizer as tokenizers

LONGEST = 3_000  # characters of a hostile text; other tests here give the tokenizer all
CONTROLS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
TEXT = st.sampled_from([*CONTROLS, "\ud800", "user", "assistant", "system", "text"]) | st.text(
    st.characters(), max_size=20)
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-10**400, 10**400) | st.floats() | TEXT,
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
                      max_leaves=8)


def some(**fields):
    """A JSON object with some of these fields, each well formed or any value."""
    return st.fixed_dictionaries({}, optional={name: VALUES | good for name, good in fields.items()})


MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT})
USER = st.fixed_dictionaries({"role": st.just("user"), "content": TEXT})
MESSAGES = st.tuples(st.lists(MESSAGE, max_size=3), USER).map(lambda both: [*both[0], both[1]])
CHAT = {"messages": MESSAGES, "n": st.integers(1, 8),
        "temperature": st.sampled_from([0, 0.01, 1, 1.5]), "max_tokens": st.integers(1, 48),
        "stop": st.lists(TEXT.filter(bool), max_size=4), "seed": st.integers(-2**31, 2**31 - 1),
        "stream": st.booleans(), "logprobs": st.booleans(), "top_p": st.just(1.0), "model": st.just("silent"),
        "chat_template_kwargs": st.fixed_dictionaries({}, optional={"enable_thinking": st.booleans()}),
        "libra_draw": st.fixed_dictionaries({"id": TEXT}, optional={"sample": st.integers(0, 9)}), "tools": st.just([])}
ITEM = st.fixed_dictionaries({"question": TEXT, "response": TEXT}, optional={"id": TEXT})
SCORE = {"items": st.lists(ITEM, min_size=1, max_size=3), "votes": st.integers(1, 2), "seed": st.integers(0, 9),
         "temperature": st.sampled_from([0, 1]), "thoughts": st.booleans()}


def right(fields, needed):
    """A JSON object that is to be understood."""
    return st.fixed_dictionaries({needed: fields[needed]},
                                 optional={name: good for name, good in fields.items() if name != needed})


def made():
    vocab = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    hf = HfTokenizer(models.BPE(vocab=vocab, merges=[]))
    hf.pre_tokenizer, hf.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    hf.add_special_tokens(CONTROLS)
    config = model.ModelJudgeConfig(name="silent", sampling=SamplingConfig(max_new_tokens=48))
    return model.ModelJudge(config=config, model_config=None, params=None, template=load_template("miniature"),
                            tokenizer=tokenizers.JsonTokenizer(json.loads(hf.to_str())))


JUDGE = made()
IDS = {JUDGE.tokenizer.control(text) for text in CONTROLS}


def controls(prompt):
    return [token for token in prompt if token in IDS]


def understood(ask):
    """What `ask` gives, or None where it refuses; anything else is a fault."""
    try:
        return ask()
    except http.Refused as refused:
        assert refused.status in (400, 404) and len(str(refused)) < 1500
        json.loads(refused.reply().body)
        return None


@given(some(**CHAT))
def test_chats_of_any_kind_are_understood_or_refused(raw):
    understood(lambda: chat.ask(json.dumps(raw).encode(), JUDGE, "thought", 8, 10**6))


@given(right(CHAT, "messages"))
def test_right_chats_are_understood(raw):
    asked = chat.ask(json.dumps(raw).encode(), JUDGE, "plain", 8, 10**6)
    assert len(asked.samples) == raw.get("n", 1) and asked.budget == raw.get("max_tokens", 48)
    turns, thinks = len(raw["messages"]), raw.get("chat_template_kwargs", {}).get("enable_thinking")
    assert len(controls(asked.prompt)) == 2 * turns + 1 + {None: 0, True: 1, False: 2}[thinks]


@given(some(**SCORE))
def test_scores_of_any_kind_are_understood_or_refused(raw):
    understood(lambda: score.ask(json.dumps(raw).encode(), JUDGE, 3, 8, 10**6))


@given(right(SCORE, "items"))
def test_right_scores_are_understood(raw):
    asked = score.ask(json.dumps(raw).encode(), JUDGE, 3, 8, 10**6)
    assert len(asked.prompts) == len(raw["items"])
    assert all(len(controls(prompt)) == 4 for prompt in asked.prompts)


@given(st.binary(max_size=60))
def test_bodies(body):
    for ask in (lambda: chat.ask(body, JUDGE, "thought", 8, 100), lambda: score.ask(body, JUDGE, 3, 8, 100)):
        understood(ask)


LINE = st.sampled_from([b"GET / HTTP/1.1", b"POST /score HTTP/1.1", b"Content-Length: 5", b"Transfer-Encoding: chunked",
                        b"Host: a", b" folded", b"A:b", b""]) | st.binary(max_size=30)


@given(st.lists(LINE, max_size=6))
def test_heads(lines):
    try:
        request, size, again = http.head(b"\r\n".join(lines))
    except http.Refused as refused:
        assert refused.status in (400, 411)
        return
    assert request.path.startswith("/") and size >= 0 and isinstance(again, bool)
    assert request.method == "POST" or not size
    assert all("\n" not in name + value and "\r" not in name + value for name, value in request.headers.items())


def test_no_hostile_text_brings_a_control_token(corpus):
    def ask(text):
        body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        return controls(chat.ask(body, JUDGE, "thought", 8, 10**7).prompt)

    harmless = ask("2")
    for name, text in corpus.items():
        assert ask(text[:LONGEST]) == harmless, name


def test_no_hostile_response_brings_one_to_be_scored(corpus):
    def ask(text):
        body = json.dumps({"items": [{"question": "1+1?", "response": text}]}).encode()
        return controls(score.ask(body, JUDGE, 3, 8, 10**7).prompts[0])

    harmless = ask("2")
    for name, text in corpus.items():
        assert ask(text[:LONGEST]) == harmless, name
