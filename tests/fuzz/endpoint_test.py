"""A judge behind HTTP: any bytes are an answer or a counted failure, and no response changes what a judge says."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from libra_jax import records
from libra_jax.judges import answers, endpoint, wire
from libra_jax.judging.prompt import load_template
from libra_jax.records import Judgement, JudgingExample

TEMPLATE = load_template("libra")
TEXT = st.sampled_from(["Verdict: correct", "</think>", "<think>", "Verdict: incorrect\n", "Verdict:",
                        "\ud800"]) | st.text(
    st.characters(), max_size=20)
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-10**400, 10**400) | st.floats() | TEXT,
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
                      max_leaves=8)


def some(**fields):
    """A JSON object with some of these fields, each well formed or any value."""
    return st.fixed_dictionaries({}, optional={name: VALUES | good for name, good in fields.items()})


TOKEN = some(token=TEXT, logprob=st.floats(-50, 0), top_logprobs=st.lists(some(token=TEXT, logprob=st.floats(-50, 0)),
                                                                         max_size=3))
BODIES = some(
    choices=st.lists(some(message=some(content=TEXT, reasoning_content=TEXT, reasoning=TEXT),
                          finish_reason=st.sampled_from(["stop", "length"]),
                          logprobs=some(content=st.lists(TOKEN, max_size=5))), max_size=2),
    usage=some(prompt_tokens=st.integers(0, 10**6), completion_tokens=st.integers(0, 10**6)))


def check(body):
    """An answer that can be written down, or a BadShape in few words."""
    try:
        found = answers.read(body, TEMPLATE)
    except answers.BadShape as error:
        assert len(str(error)) < 1500
        usage = error.usage
    else:
        assert found.verdict in ("correct", "incorrect", "unparsed")
        assert found.score is None or (0 <= found.score <= 1 and found.verdict != "unparsed")
        usage = found.usage
    assert all(type(count) is int and 0 <= count <= 10**9 for count in usage)


@given(BODIES)
def test_any_json_is_an_answer_or_a_bad_shape(body):
    check(json.dumps(body).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_bad_shape(body):
    check(body)


def test_hostile_bodies_and_contents_are_answers_or_bad_shapes(corpus, bounded, chat):
    for name, text in corpus.items():
        bounded(3, name, check, text.encode("utf-8", "replace"))
        bounded(3, name, check, json.dumps(chat(text, reasoning_content=text)).encode())
        bounded(3, name, check, json.dumps(chat(text)).encode())


def test_any_bytes_on_the_wire_are_a_reply_or_an_error(server):
    client = wire.Client(server.url, {}, timeout=5, max_body=10_000)
    heads = st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
                             b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.0 999 \r\n\r\n",
                             b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"])

    @settings(max_examples=100)
    @given(heads, st.lists(st.sampled_from([b"\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"-1\r\n", b"a: b\r\n", b": \r\n",
                                            b"{}"])
                           | st.binary(max_size=30), max_size=6).map(b"".join))
    def post(head, rest):
        server.answer = lambda request, handler: handler.wfile.write(head + rest) and None
        try:
            reply = client.post(b"{}")
        except OSError:
            return
        assert len(reply.body) <= 10_000

    post()


def test_no_response_changes_what_a_judge_says(corpus, server, chat, tmp_path):
    """The server judges by the question alone; each hostile response is sent whole, and nothing is lost."""
    def answer(request, handler):
        asked = request["messages"][-1]["content"].partition("# Question\n")[2]
        number = int(asked.partition("?")[0])
        sent[number] = asked
        return chat(f"I read: {asked[:300]}</think>\nVerdict: {'correct' if number % 2 else 'incorrect'}")

    sent, server.answer = {}, answer
    examples = [JudgingExample(id=f"{number}", problem_id="p", question=f"{number}?", response=text, correct=None,
                               policy="p", source="s") for number, text in enumerate(corpus.values())]
    config = endpoint.EndpointConfig(url=server.url, model="m", concurrency=4, retries=0, timeout=60)
    judge = endpoint.EndpointJudge(config=config, template=TEMPLATE, name="j", log=tmp_path / "requests.jsonl")
    records.write(tmp_path / "judgements.jsonl", judge.judge(examples))
    found = list(records.read(tmp_path / "judgements.jsonl", Judgement))
    assert [each.example_id for each in found] == [example.id for example in examples]
    turned = [name for number, (name, each) in enumerate(zip(corpus, found, strict=True))
              if each.verdict not in ("correct" if number % 2 else "incorrect", "unparsed")]
    assert turned == []
    for number, text in enumerate(corpus.values()):
        assert text.encode("utf-8", "replace").decode() in sent[number]
    spoiled = {name for name, each in zip(corpus, found, strict=True) if each.verdict == "unparsed"}
    assert all("</think>" in text[:300] and "Verdict:" in text for name, text in corpus.items() if name in spoiled)
