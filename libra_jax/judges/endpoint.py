"""Any model behind an OpenAI-compatible chat-completions endpoint as a judge.

What differs from a checkpoint (model.py): the messages are plain text and the server's chat template is its own
business, so nothing here keeps a response's control tokens from being read as such there; whether and how the model
thinks is the server's business too, and its thought is what the server calls one, or what stands before think_close in
the text. Draws are the server's: a seed is sent, what it is worth is up to the server.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import email.utils
import json
import math
import os
import pathlib
import queue
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from libra_jax import records
from libra_jax.judges import answers, wire
from libra_jax.judges.protocol import given
from libra_jax.judges.tally import Prices, Request, Tally, of, to_stderr
from libra_jax.judging.prompt import Template
from libra_jax.records import Judgement, JudgingExample
from libra_jax.text import chat

AHEAD = 64  # requests, for each that may be in flight, that may be begun before the first unfinished one is done
_HOPELESS = frozenset({401, 402, 404, 405})  # no other request would fare better
_LONGEST_WAIT = 600.0  # seconds; a server that asks for more is not waited for
_LONGEST_REASON = 500  # characters
_TOP_LOGPROBS = 5
_SECRET = 8  # characters from which a key is one; "EMPTY" is not


class EndpointError(ValueError):
    """The endpoint answers nobody: the run has stopped, and the same command goes on where it did."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Where and how to ask.

    Attributes:
      url: the API's base, such as http://127.0.0.1:8000/v1; "/chat/completions" is added.
      model: its name there.
      api_key_env: the environment variable that holds the key, sent as a bearer token; empty: none is sent. The key is
        written nowhere, and is blotted out of what a server says.
      num_samples: votes an example, a request each.
      temperature, top_p, max_tokens: as the API has them; max_tokens counts the thought too.
      seed: sample s of an example is asked for with seed + s; below 0: without any.
      draw_ids: for `libra serve`: every vote is asked for with `seed`, and with the example's id and the vote's number,
        by which it draws what --config.judge=model draws; other servers may refuse the field.
      logprobs: ask for probabilities of tokens; a judgement's score is then P(correct) at its verdict.
      extra: a JSON object of further fields of the request, which win; null takes a field away. For example
        {"max_tokens": null, "max_completion_tokens": 4096} or {"chat_template_kwargs": {"enable_thinking": false}}.
      concurrency: requests in flight at most.
      timeout: seconds that an attempt may take from end to end.
      retries: how often a request is tried again when the server was busy, broken, late or unintelligible.
      backoff, max_backoff: seconds before the first retry, doubled each time, and at most; less up to half by chance.
        What a Retry-After says is added.
      max_failures: requests failed for good, in a row, after which the run stops.
      prices: for the cost; of a million tokens of prompts (`input`) and of answers (`output`).
    """

    url: str = ""
    model: str = ""
    api_key_env: str = ""
    num_samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 4096
    seed: int = 0
    draw_ids: bool = False
    logprobs: bool = False
    extra: str = "{}"
    concurrency: int = 16
    timeout: float = 600.0
    retries: int = 6
    backoff: float = 1.0
    max_backoff: float = 60.0
    max_failures: int = 10
    prices: Prices = Prices()

    def __post_init__(self):
        if self.url:
            wire.check(self.url)
        for name, least in (("num_samples", 1), ("max_tokens", 1), ("concurrency", 1), ("retries", 0),
                            ("max_failures", 1), ("backoff", 0), ("max_backoff", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least {least}")
        if self.draw_ids and self.seed < 0:
            raise ValueError(f"draw_ids with seed={self.seed}: expected a seed of at least 0")
        if not self.timeout > 0:
            raise ValueError(f"timeout={self.timeout}: expected seconds above 0")
        try:
            fine = isinstance(json.loads(self.extra), dict)
        except (ValueError, RecursionError):
            fine = False
        if not fine:
            raise ValueError(f'extra={self.extra[:60]!r}: expected a JSON object, such as {{"top_k": 20}}')

    def same_answers(self) -> EndpointConfig:
        """Without what may change between a killed run and its going on, since it changes no answer."""
        free = ("api_key_env", "concurrency", "timeout", "retries", "backoff", "max_backoff", "max_failures", "prices")
        blank = EndpointConfig()
        return dataclasses.replace(self, **{name: getattr(blank, name) for name in free})


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointJudge:
    """As protocol.Sampler. Judgements follow the examples, `config.num_samples` each.

    With a `log` (a path) every finished request is written there at once, in order of finishing, and a run that goes
    on asks nothing twice that was answered. A request that failed for good becomes an unparsed judgement whose thought
    is the reason, once a later request has succeeded or all are done: while everything fails nothing is handed out, so
    that a run which stops (EndpointError, after `max_failures` in a row) asks those again when it goes on.
    """

    config: EndpointConfig
    template: Template
    name: str
    key: str = dataclasses.field(default="", repr=False)
    log: pathlib.Path | None = None
    progress: Callable[[Tally, int, int], None] | None = None

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """As Judge.judge. EndpointError where the endpoint answers nobody."""
        log = records.Appender(self.log, Request) if self.log else None
        logged = log.done if log else []
        tally = of(logged)
        whole = log is not None and log.finished
        known = {(each.example_id, each.sample): each for each in logged if whole or not each.failure}
        votes, total = self.config.num_samples, len(examples) * self.config.num_samples
        done: dict[int, Request] = {}  # by place in the run, what is not yet handed out
        place = ahead = skip  # the next to hand out, and the next to begin
        failures, why = 0, ""  # in a row, and the last one's
        with _Flight(self) as flight:
            while place < total:
                while ahead < min(total, place + AHEAD * self.config.concurrency):
                    example, sample = examples[ahead // votes], ahead % votes
                    if (example.id, sample) in known:
                        done[ahead] = known.pop((example.id, sample))
                    elif not flight.begin(ahead, example, sample):
                        break
                    ahead += 1
                while place in done and not (failures and done[place].failure):
                    yield self._judgement(done.pop(place))
                    place += 1
                if not flight.size:
                    if failures > 1 and tally.failed == tally.requests:  # of all runs; one alone may be to blame itself
                        raise EndpointError(f"all {failures} requests failed at {self.config.url}, the last: "
                                            f"{why}; check that it is there and that this machine reaches it; the same "
                                            "command asks again")
                    failures = 0  # nothing is left to succeed after them
                    continue
                at, request = flight.next()
                done[at] = request
                tally = tally.plus(request)
                if log:
                    log.append(request)
                if self.progress:
                    self.progress(tally, place + len(done), total)
                failures, why = failures + 1 if request.failure else 0, request.failure
                if failures >= self.config.max_failures:
                    raise EndpointError(f"{failures} requests in a row failed at {self.config.url}, the last: "
                                        f"{why}; the same command goes on from here (or takes them as "
                                        "unparsed, with a larger --config.endpoint.max_failures)")
        if log:
            log.finish()

    def watched(self, told: bool | Callable[[int, int], None]) -> EndpointJudge:
        """As Sampler.watched; the line has retries, tokens and cost, too."""
        if not callable(told):
            return dataclasses.replace(
                self, progress=to_stderr(f"judge {self.name}", self.config.prices) if told else None)
        return dataclasses.replace(self, progress=lambda tally, done, total: told(done, total))

    def with_settings(self, *, votes: int | None = None, temperature: float | None = None,
                      max_new_tokens: int | None = None, seed: int | None = None) -> EndpointJudge:
        """As Sampler.with_settings."""
        changes = given(num_samples=votes, temperature=temperature, max_tokens=max_new_tokens, seed=seed)
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **changes))

    def body(self, example: JudgingExample, sample: int) -> bytes:
        """The request as JSON: the template's messages up to where the judge takes over."""
        config = self.config
        *messages, _ = self.template.judging(example.question, example.response)
        fields: dict[str, Any] = {
            "model": config.model,
            "messages": [{"role": message.role, "content": _clean(chat.plain(message.content))}
                         for message in messages],
            "temperature": config.temperature, "top_p": config.top_p, "max_tokens": config.max_tokens}
        if config.seed >= 0:
            fields["seed"] = config.seed + sample * (not config.draw_ids)
        if config.draw_ids:
            fields["libra_draw"] = {"id": example.id, "sample": sample}
        if config.logprobs:
            fields |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
        fields |= json.loads(config.extra)
        return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()

    def ask(self, client: wire.Client, example: JudgingExample, sample: int) -> Request:
        """One request with its retries. EndpointError where no other request would fare better."""
        body, attempts, prompt_tokens, completion_tokens = self.body(example, sample), 0, 0, 0
        while True:
            attempts += 1
            said = self._attempt(client, body)
            prompt_tokens += said.usage[0]
            completion_tokens += said.usage[1]
            if isinstance(said, answers.Answer):
                answer, failure = said, ""
                break
            if not said.again or attempts > self.config.retries or client.closed.wait(self._pause(attempts, said)):
                answer, failure = answers.NOTHING, f"{said.reason} (attempts: {attempts})"
                break
        return Request(
            example_id=example.id, sample=sample, thought=self._kept(answer.thought), verdict=answer.verdict,
            num_tokens=answer.usage[1], score=answer.score, failure=self._kept(failure), attempts=attempts,
            prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)

    def _attempt(self, client: wire.Client, body: bytes) -> answers.Answer | _Refusal:
        try:
            reply = client.post(body)
            text = self._blotted(reply.body)
            if reply.status == 200:
                return answers.read(text, self.template)
        except OSError as error:
            return _Refusal(f"{type(error).__name__}: {self._kept(str(error))[:_LONGEST_REASON]}", again=True)
        except answers.BadShape as error:
            return _Refusal(str(error), again=True, usage=error.usage)
        reason = f"HTTP {reply.status}: {answers.shown(text)}"
        if 300 <= reply.status < 400 or reply.status in _HOPELESS:
            where = self._kept(reply.headers.get("location", ""))[:200]
            hint = f"; it points to {where!r}, where nothing is sent by itself" if where else ""
            raise EndpointError(f"{self.config.url} answers {reason}{hint}; check --config.endpoint.url, .model and "
                                ".api_key_env; the same command goes on from here")
        wait = _seconds(reply.headers.get("retry-after", ""))
        if wait > _LONGEST_WAIT:
            return _Refusal(f"{reason}, and asks to wait {wait:,.0f} s", again=False)
        return _Refusal(reason, again=reply.status in (408, 409, 425, 429) or reply.status >= 500, wait=wait)

    def _pause(self, attempts: int, said: _Refusal) -> float:
        step = min(self.config.max_backoff, self.config.backoff * 2 ** min(attempts - 1, 60))
        return said.wait + step * random.uniform(0.5, 1)

    def _blotted(self, body: bytes) -> bytes:
        return body.replace(self.key.encode(), b"[key]") if len(self.key) >= _SECRET else body

    def _kept(self, text: str) -> str:
        """The text as it may be written: in Unicode, and without the key, which JSON can spell in many ways."""
        return self._blotted(text.encode("utf-8", "replace")).decode("utf-8")

    def _judgement(self, request: Request) -> Judgement:
        thought = f"request failed: {request.failure}" if request.failure else request.thought
        return Judgement(example_id=request.example_id, judge=self.name, sample=request.sample, thought=thought,
                         verdict=request.verdict, num_tokens=request.num_tokens, score=request.score)


def load(config: EndpointConfig, name: str, template: Template, *, log: pathlib.Path | None = None) -> EndpointJudge:
    """A judge with its key from the environment. ValueError for what is not set."""
    for field in ("url", "model"):
        if not getattr(config, field):
            raise ValueError(f"--config.endpoint.{field} is empty; expected the API's base URL, and the model's name "
                             "there")
    key = os.environ.get(config.api_key_env, "").strip() if config.api_key_env else ""
    if config.api_key_env and not key:
        raise ValueError(f"the environment variable {config.api_key_env} is not set or empty; expected the key "
                         "(or --config.endpoint.api_key_env= for a server that needs none)")
    if not key.isascii() or not key.isprintable() or " " in key:  # the value itself goes into no message
        raise ValueError(f"the environment variable {config.api_key_env} holds characters that no key has")
    return EndpointJudge(config=config, template=template, name=name, key=key, log=log)


@dataclasses.dataclass(frozen=True)
class _Refusal:
    """An attempt that brought no answer: why, whether another may, and how long the server wants to be left alone."""

    reason: str
    again: bool
    wait: float = 0.0
    usage: tuple[int, int] = (0, 0)


class _Flight:
    """The requests under way, each in a thread of its own, at most `concurrency`; leaving it ends them."""

    def __init__(self, judge: EndpointJudge):
        self._judge, self.size = judge, 0
        headers = {"Authorization": f"Bearer {judge.key}"} if judge.key else {}
        self._client = wire.Client(judge.config.url.rstrip("/") + "/chat/completions", headers,
                                   timeout=judge.config.timeout)
        self._threads = concurrent.futures.ThreadPoolExecutor(judge.config.concurrency, "endpoint")
        self._ends: queue.SimpleQueue = queue.SimpleQueue()

    def __enter__(self) -> _Flight:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._threads.shutdown(cancel_futures=True)

    def begin(self, place: int, example: JudgingExample, sample: int) -> bool:
        """Begins a request, unless as many as may be are under way."""
        if self.size >= self._judge.config.concurrency:
            return False
        self.size += 1
        future = self._threads.submit(self._judge.ask, self._client, example, sample)
        future.add_done_callback(lambda future: self._ends.put((place, future)))
        return True

    def next(self) -> tuple[int, Request]:
        """The next request that ends, with its place; raises what its thread raised."""
        place, future = self._ends.get()
        self.size -= 1
        return place, future.result()


def _seconds(retry_after: str) -> float:
    """A Retry-After, in seconds or as a date, as seconds from now; 0 for none that is understood."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
    return 0.0 if math.isnan(seconds) else max(0.0, seconds)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
