"""Requests and answers of POST /v1/chat/completions, as data; the fields are those of OpenAI's API.

A conversation is rendered in the family's template with every message's text as text: nothing that it says becomes a
control token. The assistant's turn is opened as Config.opening says; what is drawn before the thought's end is
`reasoning_content` (as in DeepSeek's API, vLLM and SGLang), what follows is `content`.
"""

from __future__ import annotations

import bisect
import dataclasses
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from libra_jax.judges.model import ModelJudge, stable_id
from libra_jax.records import Message
from libra_jax.serving.fields import Fields, read
from libra_jax.serving.http import Refused
from libra_jax.text import chat

Opening = Literal["thought", "no_thought", "plain"]
_ROLES = ("system", "user", "assistant")
_SEEDS = 2**31
_NO_EFFECT = ("user", "metadata", "store")  # say nothing about the answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """What a request wants: `samples` (their numbers) of `prompt`, and how the answer is to look."""

    prompt: tuple[int, ...]
    samples: range
    seed: int
    id: int
    temperature: float
    budget: int
    opening: Opening
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    logprobs: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """What a choice says so far; `num_tokens` of its tokens make it, fewer than were drawn where a stop text `ended`
    it."""

    thought: str
    content: str
    num_tokens: int
    ended: bool


def ask(body: bytes, judge: ModelJudge, opening: Opening, most_samples: int, longest: int) -> Ask:
    """The request in a body, with the judge's own settings where it says nothing. Refused for what is none."""
    fields, sampling = Fields(read(body)), judge.config.sampling
    name = fields.text("model", judge.name)
    if name != judge.name:
        raise Refused(404, f"no model {name[:60]!r} here; there is {judge.name!r}")
    messages = _messages(fields.take("messages"))
    template = Fields(fields.take("chat_template_kwargs", {}), "chat_template_kwargs")
    thinks = template.flag("enable_thinking", opening == "thought")
    if template.take("enable_thinking") is not None:
        opening = "thought" if thinks else "no_thought"
    template.end()
    prompt = rendered(judge, messages, opening)
    if len(prompt) > longest:
        raise Refused(400, f"messages: {len(prompt):,} tokens; expected at most {longest:,}")
    number = fields.count("n", 1, 1, most_samples)
    seed = fields.count("seed", secrets.randbelow(_SEEDS), -_SEEDS, _SEEDS - 1)
    number_of, first = stable_id(repr(prompt)), 0
    if (draw := fields.take("libra_draw")) is not None:
        draw = Fields(draw, "libra_draw")
        number_of, first = stable_id(draw.text("id")), draw.count("sample", 0, 0, _SEEDS - 1 - number)
        draw.end()
    most = fields.count("max_tokens", sampling.max_new_tokens, 1, sampling.max_new_tokens)
    most = fields.count("max_completion_tokens", most, 1, sampling.max_new_tokens)
    stream = fields.flag("stream", False)
    options = Fields(fields.take("stream_options", {}), "stream_options")
    usage = options.flag("include_usage", False)
    options.end()
    found = Ask(prompt=prompt, samples=range(first, first + number), seed=seed, id=number_of,
                temperature=fields.temperature(sampling.temperature), budget=most, opening=opening,
                stop=_stops(fields), stream=stream, include_usage=usage, logprobs=fields.flag("logprobs", False))
    fields.fixed("top_logprobs", 0)
    fields.fixed("top_p", sampling.top_p)
    fields.fixed("top_k", sampling.top_k)
    for neutral, *values in (("frequency_penalty", 0), ("presence_penalty", 0), ("logit_bias", {}), ("tools", []),
                             ("tool_choice", "none"), ("response_format", {"type": "text"})):
        fields.fixed(neutral, *values)
    fields.end(_NO_EFFECT)
    return found


def rendered(judge: ModelJudge, messages: Sequence[Message], opening: Opening) -> tuple[int, ...]:
    """Token ids of a conversation up to where the model takes over."""
    if opening != "plain":
        *_, turn = judge.template.judging("", "", thinking=opening == "thought")
        messages = [*messages, turn]
    try:
        return chat.render(judge.tokenizer, messages, open_last=True).tokens
    except ValueError as error:  # of messages in an order that no template knows
        raise Refused(400, f"messages: {error}") from None


def text(judge: ModelJudge, tokens: Iterable[int], asked: Ask, *, whole: bool = True) -> Text:
    """What the model's own tokens say, cut before the first stop text; of tokens that are not `whole` yet what is
    certain to stay."""
    tokens = [int(token) for token in tokens]
    number = len(tokens)
    body = tokens[:-1] if tokens and tokens[-1] in judge.tokenizer.stop_ids else tokens
    said = _split(judge, body, asked.opening)
    if not asked.stop and whole:
        return Text(thought=said[0], content=said[1], num_tokens=number, ended=False)
    if any(_found(part, asked.stop) is not None for part in said):
        number = 1 + bisect.bisect_left(range(1, len(body) + 1), True, key=lambda size: any(
            _found(part, asked.stop) is not None for part in _split(judge, body[:size], asked.opening)))
        thought, content = _split(judge, body[:number], asked.opening)
        at = _found(thought, asked.stop)
        if at is not None:
            return Text(thought=thought[:at], content="", num_tokens=number, ended=True)
        return Text(thought=thought, content=content[: _found(content, asked.stop)], num_tokens=number, ended=True)
    if not whole:
        marks = (*asked.stop, judge.template.think_close)
        said = (said[0] if said[1] else _certain(said[0], marks)), _certain(said[1], marks)
    return Text(thought=said[0], content=said[1], num_tokens=number, ended=False)


def finish(tokens: Sequence[int] | np.ndarray, said: Text, judge: ModelJudge) -> str:
    """OpenAI's finish_reason."""
    return "stop" if said.ended or int(tokens[-1]) in judge.tokenizer.stop_ids else "length"


def message(said: Text) -> dict[str, Any]:
    """The assistant's message."""
    found = {"role": "assistant", "content": said.content}
    return found | ({"reasoning_content": said.thought} if said.thought else {})


def logprobs(judge: ModelJudge, tokens: Iterable[int], values: np.ndarray, number: int) -> dict[str, Any]:
    """The log-probabilities of the first `number` tokens, at temperature 1, the stop token left out."""
    entries = []
    for token, value in list(zip(tokens, values, strict=True))[:number]:
        if int(token) not in judge.tokenizer.stop_ids:
            entries.append({"token": judge.tokenizer.decode([int(token)]), "logprob": round(float(value), 6),
                            "top_logprobs": []})
    return {"content": entries}


def usage(prompt: int, completion: int) -> dict[str, int]:
    """OpenAI's counts of tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _messages(raw: Any) -> list[Message]:
    if not isinstance(raw, list) or not raw:
        raise Refused(400, "messages: expected a list of at least one message")
    found = []
    for index, each in enumerate(raw):
        fields = Fields(each, f"messages[{index}]")
        role = fields.text("role")
        if role not in _ROLES:
            raise fields.wrong("role", "one of " + ", ".join(_ROLES))
        content = fields.take("content")
        if isinstance(content, list):  # of parts, of which only texts are known here
            parts = [Fields(part, f"messages[{index}].content[{place}]") for place, part in enumerate(content)]
            for part in parts:
                part.fixed("type", "text")
            content = "".join(part.text("text") for part in parts)
        if not isinstance(content, str):
            raise fields.wrong("content", "a string, or parts of type text")
        fields.end(("name", "reasoning_content"))
        found.append(Message(role=role, content=(content,)))
    if found[-1].role == "assistant":
        raise Refused(400, "messages: the last one is the assistant's, and none is gone on with; expected the user's")
    return found


def _stops(fields: Fields) -> tuple[str, ...]:
    stop = fields.take("stop", [])
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or len(stop) > 4 or not all(isinstance(each, str) and each for each in stop):
        raise fields.wrong("stop", "a string that is not empty, or up to four of them")
    return tuple(stop)


def _split(judge: ModelJudge, tokens: list[int], opening: Opening) -> tuple[str, str]:
    """(thought, content) of the model's own tokens."""
    decode, template = judge.tokenizer.decode, judge.template
    begin, close = judge.tokenizer.control(template.think_open), judge.tokenizer.control(template.think_close)
    if opening == "plain" and begin is not None and tokens[:1] == [begin]:
        opening, tokens = "thought", tokens[1:]
    if opening != "thought":
        return "", decode(tokens)
    if close is None:
        thought, _, content = decode(tokens).partition(template.think_close)
        return thought, content
    at = tokens.index(close) if close in tokens else len(tokens)
    return decode(tokens[:at]), decode(tokens[at + 1 :])


def _found(part: str, stops: Sequence[str]) -> int | None:
    """Where the first stop text begins."""
    places = [place for place in (part.find(stop) for stop in stops) if place >= 0]
    return min(places, default=None)


def _certain(part: str, marks: Sequence[str]) -> str:
    """`part` without an end that later tokens may change: half a character, or what may become one of `marks`."""
    part = part.rstrip("\ufffd")
    held = max((size for mark in marks for size in range(1, len(mark)) if part.endswith(mark[:size])), default=0)
    return part[: len(part) - held]
