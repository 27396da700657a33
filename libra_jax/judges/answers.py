"""What a chat-completions server answered, as thought, verdict, score and tokens. Pure; the body is untrusted.

Shapes: `choices[0].message.content`, with the thought apart in `reasoning_content` (DeepSeek, vLLM, SGLang) or
`reasoning` (OpenRouter, newer vLLM), or at the head of the content up to think_close; `usage`; and
`logprobs.content`, a list of {token, logprob, top_logprobs}.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import json
import math
from typing import Any

from libra_jax.judging import verdict
from libra_jax.judging.prompt import Template
from libra_jax.records import Verdict

_SHOWN = 200  # characters of a body in a message
_MOST_TOKENS = 10**9


class BadShape(ValueError):
    """A body that is no chat completion; `usage` is what it says it cost, if it says so."""

    def __init__(self, message: str, usage: tuple[int, int] = (0, 0)):
        super().__init__(message)
        self.usage = usage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A judge's answer; `score` is P(correct) at the verdict, None where the server gave no probabilities there.

    `usage`: tokens of the prompt and of the answer, its thought included, as the server counts them.
    """

    thought: str
    verdict: Verdict
    score: float | None
    usage: tuple[int, int]


NOTHING = Answer(thought="", verdict="unparsed", score=None, usage=(0, 0))


def read(body: bytes, template: Template) -> Answer:
    """The answer in the body of a reply of status 200. BadShape for what is no chat completion.

    A null content counts as empty beside a thought, or where the answer was cut at its maximum of tokens.
    """
    try:
        raw = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadShape(f"not JSON ({error}): {shown(body)}") from None
    usage = _usage(raw)
    try:
        choice = raw["choices"][0]
        message = choice["message"]
        content = message["content"]
        thought = message.get("reasoning_content") or message.get("reasoning") or ""
    except (LookupError, TypeError, AttributeError):
        raise BadShape(f"no choices[0].message.content: {shown(body)}", usage) from None
    if content is None and (thought or choice.get("finish_reason") == "length"):
        content = ""
    if not isinstance(content, str) or not isinstance(thought, str):
        raise BadShape(f"the message's content is a {type(content).__name__} and its thought a "
                       f"{type(thought).__name__}, not text: {shown(body)}", usage)
    if thought:
        found = verdict.parse(content, template)
    else:
        thought, found = _split(content, template)
    score = None if found == "unparsed" else probability(choice.get("logprobs"), template, found)
    return Answer(thought=thought.strip(), verdict=found, score=score, usage=usage)


def probability(logprobs: Any, template: Template, word: Verdict) -> float | None:
    """P(correct) at the token where the last verdict line names `word`: p(correct) / (p(correct) + p(incorrect)).

    The alternatives of that token that go on as "correct" and as "incorrect" are summed. None where `logprobs` is of
    another shape, or no such token is found.
    """
    tokens = _tokens(logprobs)
    text = "".join(token for token, _ in tokens)
    line = text.rfind(template.verdict_format.replace("{verdict}", word).strip())
    if line < 0:
        return None
    place = line + template.verdict_format.strip().index("{verdict}")
    ends = list(itertools.accumulate(len(token) for token, _ in tokens))
    at = bisect.bisect_right(ends, place)  # the token that the verdict's first letter is in
    before = text[ends[at] - len(tokens[at][0]):place]  # what it has of the words before, mostly a space
    others = tokens[at][1]
    mass = {"correct": 0.0, "incorrect": 0.0}
    for other, share in others:
        rest = other[len(before):]
        for name in mass if rest and other.startswith(before) else ():
            mass[name] += share * (name.startswith(rest) or rest.startswith(name))
    total = sum(mass.values())
    return mass["correct"] / total if total > 0 else None  # also not above 0: a probability that is no number


def _tokens(logprobs: Any) -> list[tuple[str, list[tuple[str, float]]]]:
    """Each token with its alternatives and their probabilities; empty where `logprobs` is of another shape."""
    found = []
    try:
        for entry in logprobs["content"]:
            others = [(str(other["token"]), math.exp(min(float(other["logprob"]), 0.0)))
                      for other in entry["top_logprobs"]]
            found.append((str(entry["token"]), others))
    except (LookupError, TypeError, ValueError, OverflowError):
        return []
    return found


def shown(body: bytes) -> str:
    """The head of a body, on one line, for a message."""
    text = body[:4 * _SHOWN].decode("utf-8", "replace")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _split(content: str, template: Template) -> tuple[str, Verdict]:
    """As verdict.read of a content that may have a thought at its head; one that opens and never closes is unparsed."""
    opened = bool(template.think_open) and content.lstrip().startswith(template.think_open)
    thinking = opened or template.think_close in content
    if opened:
        content = content.lstrip().removeprefix(template.think_open)
    return verdict.read(content, template, thinking=thinking)


def _usage(raw: Any) -> tuple[int, int]:
    """(prompt tokens, completion tokens), 0 where nothing credible is said."""
    usage = raw.get("usage") if isinstance(raw, dict) else None
    counts = [usage.get(name) if isinstance(usage, dict) else 0 for name in ("prompt_tokens", "completion_tokens")]
    credible = [count if type(count) is int and 0 <= count <= _MOST_TOKENS else 0 for count in counts]
    return credible[0], credible[1]
