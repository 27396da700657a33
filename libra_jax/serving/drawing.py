"""A job of the worker as the event loop sees it: samples that grow and end, a deadline, and leaving off."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import numpy as np

from libra_jax.sampling.engine import Sample
from libra_jax.serving.http import Refused
from libra_jax.serving.worker import Job, Worker


class Account(Protocol):
    """Who draws: a worker, how many samples are wanted of it now, and how many `seconds` a request may take."""

    worker: Worker
    num_wanted: int
    seconds: float


class Drawing:
    """Samples of one prompt; as a context it is submitted and counted as wanted, and at its end left off. `looks`:
    samples are seen while they grow, too."""

    def __init__(self, account: Account, prompt: tuple[int, ...], samples: range, seed: int, id: int, budget: int,
                 temperature: float, *, looks: bool = False):
        loop = asyncio.get_running_loop()

        def told(tell: Callable[[Any], None]) -> Callable[[Any], None]:
            return functools.partial(_call, loop, tell)

        self._account, self._samples = account, samples
        self._open, self._done = set(samples), {}
        self._drawn: Mapping[int, tuple[np.ndarray, np.ndarray]] = {}
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._deadline = loop.time() + account.seconds
        self._job = Job(prompt=prompt, samples=samples, seed=seed, id=id, budget=budget, temperature=temperature,
                        done=told(self._finished), failed=told(self._failed),
                        drawn=told(self._progressed) if looks else None)

    def __enter__(self) -> Drawing:
        self._account.num_wanted += len(self._samples)
        self._account.worker.submit(self._job)
        return self

    def __exit__(self, *_: object) -> None:
        self._account.num_wanted -= len(self._samples)
        self._account.worker.cancel(self._job)

    async def tokens(self) -> list[np.ndarray]:
        """The tokens of all samples, in order of their numbers. Refused where they do not come."""
        found = {number: tokens async for number, tokens, _, whole in self.seen() if whole}
        return [found[number] for number in self._samples]

    async def seen(self) -> AsyncIterator[tuple[int, np.ndarray, np.ndarray, bool]]:
        """(number, tokens, log-probabilities, whether that is all) of samples as they grow and end, until all are
        closed or have ended; of what comes faster than it is taken the latest."""
        while self._open:
            await self._wait()
            drawn, self._drawn = self._drawn, {}
            done, self._done = self._done, {}
            for number, (tokens, logprobs) in drawn.items():
                if number in self._open and number not in done:
                    yield number, tokens, logprobs, False
            for number, sample in done.items():
                if number in self._open:
                    self._open.discard(number)
                    yield number, sample.tokens, sample.logprobs, True

    def close(self, number: int) -> None:
        """A sample is wanted no more."""
        self._open.discard(number)

    async def _wait(self) -> None:
        left = self._deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(left):
                await self._news.wait()
        except TimeoutError:
            raise Refused(504, f"not done within {self._account.seconds:g} s") from None
        self._news.clear()
        if self._error:
            raise Refused(400 if isinstance(self._error, ValueError) else 500, str(self._error)
                          if isinstance(self._error, ValueError) else "the engine failed at this request")

    def _finished(self, sample: Sample) -> None:
        self._done[sample.sample] = sample
        self._news.set()

    def _progressed(self, drawn: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        self._drawn = drawn
        self._news.set()

    def _failed(self, error: Exception) -> None:
        self._error = error
        self._news.set()


def _call(loop: asyncio.AbstractEventLoop, tell: Callable[[Any], None], what: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(tell, what)
