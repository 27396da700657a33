"""What requests to an endpoint came to: the record of each, and their sums in tokens and money."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterable

from libra_jax import records
from libra_jax.records import Verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A request that is done: an answer, or after all retries a `failure` (its reason, else empty).

    `prompt_tokens` and `completion_tokens` sum over all `attempts`, as far as the server said; `num_tokens` is the
    answer's own.
    """

    example_id: str
    sample: int
    thought: str
    verdict: Verdict
    num_tokens: int
    score: float | None
    failure: str
    attempts: int
    prompt_tokens: int
    completion_tokens: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
    """What tokens cost, in any currency.

    Attributes:
      input: of a million tokens of prompts.
      output: of a million tokens of answers.
    """

    input: float = 0.0
    output: float = 0.0

    def __post_init__(self):
        if not (self.input >= 0 and self.output >= 0):
            raise ValueError(f"prices of {self.input} and {self.output}: expected at least 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tally:
    """Sums over requests; `attempts` counts what was sent, `failed` the requests that no attempt answered."""

    requests: int = 0
    failed: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, request: Request) -> Tally:
        """With one request more."""
        return Tally(requests=self.requests + 1, failed=self.failed + bool(request.failure),
                     attempts=self.attempts + request.attempts,
                     prompt_tokens=self.prompt_tokens + request.prompt_tokens,
                     completion_tokens=self.completion_tokens + request.completion_tokens)

    def cost(self, prices: Prices) -> float:
        """What the tokens cost."""
        return (self.prompt_tokens * prices.input + self.completion_tokens * prices.output) / 1e6


def of(requests: Iterable[Request]) -> Tally:
    """The sums over all these requests."""
    tally = Tally()
    for request in requests:
        tally = tally.plus(request)
    return tally


def summary(path: pathlib.Path, prices: Prices) -> dict[str, float]:
    """What all runs together sent and paid, by the log at `path` (finished or not), for a stage's summary.

    `failed_requests` are those that were not answered later either. What was under way when a run was killed is not
    known here.
    """
    path = path if path.exists() else path.with_name(path.name + ".partial")
    logged = list(records.read(path, Request)) if path.exists() else []
    tally = of(logged)
    last = {(each.example_id, each.sample): each.failure for each in logged}
    return {"attempts": tally.attempts, "retries": tally.attempts - tally.requests,
            "failed_requests": sum(map(bool, last.values())), "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens, "cost": round(tally.cost(prices), 6)}


def to_stderr(label: str, prices: Prices, every: float = 5.0) -> Callable[[Tally, int, int], None]:
    """A progress callback (sums, judgements there, judgements in all): a line at most every `every` seconds, and
    at the end."""
    start = last = time.monotonic()
    before: int | None = None  # requests of earlier runs

    def show(tally: Tally, done: int, total: int) -> None:
        nonlocal before, last
        before = tally.requests - 1 if before is None else before
        now = time.monotonic()
        if now - last < every and done < total:
            return
        last = now
        rate = (tally.requests - before) / max(now - start, 1e-9)
        print(f"{label}: {done:,} of {total:,} judgements, {rate:,.1f}/s, {(total - done) / rate:,.0f} s left, "
              f"{tally.attempts - tally.requests:,} retries, {tally.failed:,} failed, {tally.prompt_tokens:,} + "
              f"{tally.completion_tokens:,} tokens, cost {tally.cost(prices):,.4f}", file=sys.stderr, flush=True)

    return show
