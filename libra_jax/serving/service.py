"""The service: who may ask, what is asked, how much at once, and the answers; over serving/http.py and worker.py."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import functools
import hmac
import json
import secrets
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal

from libra_jax.judges.model import ModelJudge
from libra_jax.sampling.session import Session
from libra_jax.serving import chat, http, score
from libra_jax.serving.drawing import Drawing
from libra_jax.serving.http import Refused, Reply, Request
from libra_jax.serving.worker import Worker

_ROUTES = {"/v1/chat/completions": "POST", "/score": "POST", "/v1/models": "GET", "/health": "GET", "/ready": "GET",
           "/metrics": "GET"}
_OPEN = ("/health", "/ready")  # for probes, which have no token


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What the service takes on.

    Attributes:
      longest: tokens of the longest prompt.
      items: of one /score request at most.
      samples: of one request at most: n of a chat, items times votes of /score.
      queue: samples that may be wanted at once, drawn or waiting; what would exceed it is told 429.
      retry_after: seconds that a 429 asks to wait.
      seconds: that a request may take from its last byte; then it is told 504 and left off.
      segment: tokens that rows draw before finished samples leave and others enter: fewer answer and stream sooner,
        and cost more.
      opening: how the assistant's turn begins in a chat: "thought" opens one; "no_thought" gives an empty one; "plain"
        writes nothing; "as_judge" is one of the first two, as the judge thinks. chat_template_kwargs.enable_thinking
        of a request goes first.
      drain_seconds: how long a SIGTERM waits for what runs.
    """

    longest: int = 4096
    items: int = 256
    samples: int = 1024
    queue: int = 4096
    retry_after: int = 1
    seconds: float = 600.0
    segment: int = 32
    opening: Literal["as_judge", "thought", "no_thought", "plain"] = "as_judge"
    drain_seconds: float = 30.0

    def __post_init__(self):
        for name in ("longest", "items", "samples", "queue", "retry_after", "segment"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 1")
        if not (self.seconds > 0 and self.drain_seconds >= 0):
            raise ValueError(f"seconds={self.seconds}, drain_seconds={self.drain_seconds}: expected above 0, and 0 or "
                             "more")
        if self.queue < self.samples:
            raise ValueError(f"queue={self.queue}: expected at least samples={self.samples}, what one request may want")


class Service:
    """Serves one judge. `token`: what clients have to bring as "Authorization: Bearer"; empty: nothing."""

    def __init__(self, judge: ModelJudge, config: ServiceConfig, limits: http.LimitsConfig, token: str = ""):
        self.judge, self.config, self._token = judge, config, token
        self.worker = Worker(functools.partial(
            Session, judge.model_config, judge.params, judge.config.sampling, longest=config.longest,
            stop_ids=judge.tokenizer.stop_ids, segment=config.segment, mesh=judge.mesh))
        self.server = http.Server(limits, self.check, self.answer, self._count)
        self._opening: chat.Opening = "thought" if judge.config.thinking else "no_thought"
        if config.opening != "as_judge":
            self._opening = config.opening
        self.draining, self.num_wanted, self.seconds = False, 0, config.seconds
        self._counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self._started = int(time.time())
        self._routes: dict[str, Callable[[Request], Any]] = {
            "/v1/chat/completions": self._chat, "/score": self._score, "/v1/models": self._models,
            "/health": self._health, "/ready": self._ready, "/metrics": self._metrics}

    async def run(self, bound: socket.socket, stop: asyncio.Event, listening: Callable[[], None]) -> None:
        """Serves at `bound` (http.bind) until `stop` is set; then refuses what is new, finishes what runs within
        drain_seconds, and returns.

        `listening` is called once requests are heard. ValueError where the engine cannot be made.
        """
        await asyncio.to_thread(self.worker.start)
        try:
            await self.server.start(bound)
            listening()
            await stop.wait()
            self.draining = self.server.closing = True
            end = time.monotonic() + self.config.drain_seconds
            while self.server.num_active and time.monotonic() < end:
                await asyncio.sleep(0.02)
            await self.server.stop()
        finally:
            await asyncio.to_thread(self.worker.stop)

    def check(self, request: Request) -> None:
        """Refuses by the head alone: no such path or method, no token, a body that is no JSON, or too much to do."""
        method = _ROUTES.get(request.path)
        if method is None:
            raise Refused(404, f"nothing at this path; there is {', '.join(_ROUTES)}")
        if request.path not in _OPEN:
            self._check_token(request)
        if request.method != method:
            raise Refused(405, f"expected {method}", headers={"Allow": method})
        if method == "POST":
            # A page in a browser can send other types to any address, without asking it first.
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise Refused(415, "expected Content-Type: application/json")
            if self.draining:
                raise Refused(503, "the server is stopping", headers={"Retry-After": str(self.config.retry_after)})
            if self.worker.dead:
                raise Refused(503, "the engine has failed")
            self._check_room(1)

    async def answer(self, request: Request) -> Reply:
        """The reply to a request that `check` let through."""
        try:
            return await self._routes[request.path](request)
        except Refused:
            raise
        except Exception as error:  # a fault of ours: the client is told no more than that
            print(f"error: {request.method} {request.path}: {type(error).__name__}: {error}", file=sys.stderr)
            raise Refused(500, "the server failed at this request") from error

    def _check_token(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("latin-1"), self._token.encode("latin-1"))
        if self._token and not (right and scheme.lower() == "bearer"):
            raise Refused(401, "expected Authorization: Bearer with the server's token",
                          headers={"WWW-Authenticate": "Bearer"})

    def _check_room(self, number: int) -> None:
        if self.num_wanted + number > self.config.queue:
            raise Refused(429, f"{self.num_wanted} samples are wanted already, of at most {self.config.queue}",
                          headers={"Retry-After": str(self.config.retry_after)})

    async def _chat(self, request: Request) -> Reply:
        config = self.config
        asked = await asyncio.to_thread(chat.ask, request.body, self.judge, self._opening, config.samples,
                                        config.longest)
        self._check_room(len(asked.samples))
        base = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": self.judge.name}
        if asked.stream:
            return Reply(kind="text/event-stream", pieces=self._stream(asked, base))
        choices: dict[int, dict[str, Any]] = {}
        spent = 0
        with self._drawing(asked) as drawing:
            async for number, tokens, logprobs, whole in drawing.seen():
                said = chat.text(self.judge, tokens, asked, whole=whole)
                if whole or said.ended:
                    drawing.close(number)
                    spent += said.num_tokens
                    choices[number] = {
                        "index": number - asked.samples.start, "message": chat.message(said),
                        "finish_reason": chat.finish(tokens, said, self.judge), "logprobs":
                        chat.logprobs(self.judge, tokens, logprobs, said.num_tokens) if asked.logprobs else None}
        self._spent(asked.prompt, len(choices), spent)
        return Reply(body=http.to_json({**base, "object": "chat.completion",
                                        "choices": [choices[number] for number in asked.samples],
                                        "usage": chat.usage(len(asked.prompt), spent)}))

    def _drawing(self, asked: chat.Ask) -> Drawing:
        return Drawing(self, asked.prompt, asked.samples, asked.seed, asked.id, asked.budget, asked.temperature,
                       looks=asked.stream or bool(asked.stop))

    async def _stream(self, asked: chat.Ask, base: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """Server-sent events: what is new of each choice after each segment, then the usage where asked for."""
        def event(index: int, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> bytes:
            choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
            return _event({**base, "object": "chat.completion.chunk", "choices": [choice]})

        sent: dict[int, tuple[int, int, int]] = {}  # of each choice: letters of thought and content, and tokens
        spent = 0
        try:
            self._check_room(len(asked.samples))
            for index in range(len(asked.samples)):
                yield event(index, {"role": "assistant", "content": ""})
            with self._drawing(asked) as drawing:
                async for number, tokens, logprobs, whole in drawing.seen():
                    index, before = number - asked.samples.start, sent.get(number, (0, 0, 0))
                    said = chat.text(self.judge, tokens, asked, whole=whole)
                    delta = {"reasoning_content": said.thought[before[0] :], "content": said.content[before[1] :]}
                    delta = {name: value for name, value in delta.items() if value}
                    fresh = slice(before[2], max(before[2], said.num_tokens))
                    values = None
                    if asked.logprobs:
                        values = chat.logprobs(self.judge, tokens[fresh], logprobs[fresh], said.num_tokens)
                    ended = whole or said.ended
                    if delta or ended:
                        letters = max(before[0], len(said.thought)), max(before[1], len(said.content))
                        sent[number] = (*letters, fresh.stop)
                        yield event(index, delta, chat.finish(tokens, said, self.judge) if ended else None, values)
                    if ended:
                        drawing.close(number)
                        spent += said.num_tokens
            self._spent(asked.prompt, len(asked.samples), spent)
            if asked.include_usage:
                yield _event({**base, "object": "chat.completion.chunk", "choices": [],
                              "usage": chat.usage(len(asked.prompt), spent)})
            yield b"data: [DONE]\n\n"
        except Refused as refused:  # the status is sent already
            yield _event(json.loads(refused.reply().body))

    async def _score(self, request: Request) -> Reply:
        config = self.config
        asked = await asyncio.to_thread(score.ask, request.body, self.judge, config.items, config.samples,
                                        config.longest)
        self._check_room(asked.votes * len(asked.prompts))
        with contextlib.ExitStack() as stack:
            drawings = [stack.enter_context(Drawing(
                self, prompt, range(asked.votes), asked.seed, score.seed_id(example), asked.budget, asked.temperature))
                for example, prompt in zip(asked.examples, asked.prompts, strict=True)]
            drawn = [await drawing.tokens() for drawing in drawings]  # which all are under way
        found = await asyncio.to_thread(score.answer, self.judge, asked, drawn)
        self._counts["samples", ""] += asked.votes * len(asked.prompts)
        for kind in ("prompt", "completion"):
            self._counts["tokens", f'kind="{kind}"'] += found["usage"][f"{kind}_tokens"]
        return Reply(body=http.to_json(found))

    async def _models(self, request: Request) -> Reply:
        model = {"id": self.judge.name, "object": "model", "created": self._started, "owned_by": "libra_jax",
                 "max_model_len": self.judge.model_config.max_length}
        return Reply(body=http.to_json({"object": "list", "data": [model]}))

    async def _health(self, request: Request) -> Reply:
        if self.worker.dead:
            raise Refused(503, "the engine has failed")
        return Reply(body=http.to_json({"status": "ok"}))

    async def _ready(self, request: Request) -> Reply:
        if self.worker.dead or self.draining:
            raise Refused(503, "the engine has failed" if self.worker.dead else "the server is stopping")
        return Reply(body=http.to_json({"status": "ready"}))

    async def _metrics(self, request: Request) -> Reply:
        now = {"samples_wanted": self.num_wanted, "rows_busy": self.worker.num_rows,
               "connections": self.server.num_connections, "requests_active": self.server.num_active,
               "draining": int(self.draining)}
        lines = [f"libra_{name} {value}" for name, value in now.items()]
        found = self._counts | {("drawn_tokens", ""): self.worker.num_tokens,
                                ("engine_failures", ""): self.worker.num_failures}
        for (name, labels), value in sorted(found.items()):
            lines.append(f"libra_{name}_total{'{' + labels + '}' if labels else ''} {value}")
        return Reply(kind="text/plain; version=0.0.4", body=("\n".join(lines) + "\n").encode())

    def _count(self, path: str, status: int) -> None:
        path = path if path in _ROUTES else ""  # so that nobody makes up new ones
        self._counts["requests", f'path="{path}",status="{status}"'] += 1

    def _spent(self, prompt: tuple[int, ...], samples: int, completion: int) -> None:
        self._counts["samples", ""] += samples
        self._counts["tokens", 'kind="prompt"'] += len(prompt)
        self._counts["tokens", 'kind="completion"'] += completion


def _event(value: Any) -> bytes:
    return b"data: " + http.to_json(value) + b"\n\n"
