"""Decides many (solution, reference) pairs on all cores, each bounded in time and memory.

What the exact path decides never leaves this process. The rest goes to worker processes with a memory limit; one that
hangs or dies is killed and replaced, and its pair is undecided.
"""

from __future__ import annotations

import collections
import dataclasses
import multiprocessing
import os
import resource
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection

from libra_jax.verify import equal, extract

MEMORY = 4 << 30  # bytes of address space a worker may take
AHEAD = 64  # pairs under way for each worker


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """`correct` None: undecided. `extracted` is the final answer found (None: none); `why` says how it was decided."""

    correct: bool | None
    extracted: str | None
    why: str


def decide(pairs: Iterable[tuple[str, str]], *, num_workers: int | None = None,
           timeout: float = 5.0) -> Iterator[Decision]:
    """Streams a decision for each (solution text, reference answer), in their order.

    A solution without a final answer is incorrect. `timeout`: seconds a pair may take before it is undecided.
    """
    workers = [_Worker(timeout) for _ in range(num_workers or os.cpu_count() or 1)]
    waiting: collections.deque[_Job] = collections.deque()
    try:
        for text, reference in pairs:
            waiting.append(_quick(text, reference))
            _serve(workers, waiting)
            while waiting and (waiting[0].decision or len(waiting) > AHEAD * len(workers)):
                while waiting[0].decision is None:
                    _serve(workers, waiting, wait=True)
                yield waiting.popleft().decision
        while waiting:
            while waiting[0].decision is None:
                _serve(workers, waiting, wait=True)
            yield waiting.popleft().decision
    finally:
        for worker in workers:
            worker.stop()


@dataclasses.dataclass
class _Job:
    answer: str
    reference: str
    decision: Decision | None = None
    given: bool = False


def _quick(text: str, reference: str) -> _Job:
    answer = extract.extract(text)
    if answer is None and len(text) > extract.MAX_TEXT:
        why = f"no final answer in the last {extract.MAX_TEXT} of {len(text)} characters"
        return _Job("", reference, Decision(correct=None, extracted=None, why=why))
    if answer is None:
        return _Job("", reference, Decision(correct=False, extracted=None, why="no final answer found"))
    shown = answer[:200]
    fast = equal.fast_equal(answer, reference)
    if fast is not None:
        return _Job(answer, reference, Decision(correct=fast, extracted=shown, why="exact comparison"))
    reason = equal.hostile(answer) or equal.hostile(reference)
    if reason:
        return _Job(answer, reference, Decision(correct=None, extracted=shown, why=f"not parsed: {reason}"))
    return _Job(answer, reference)


def _serve(workers: list[_Worker], waiting: collections.deque[_Job], *, wait: bool = False) -> None:
    """Collects what workers finished and gives them the next jobs; with `wait`, rests a moment if all are busy."""
    for worker in workers:
        worker.collect()
    fresh = (job for job in waiting if job.decision is None and not job.given)
    for worker in workers:
        if worker.job is None and (job := next(fresh, None)) is not None:
            worker.give(job)
    if wait:
        multiprocessing.connection.wait([worker.pipe for worker in workers if worker.job], timeout=0.05)


class _Worker:
    """One process that runs math-verify; `job` is what it is at."""

    def __init__(self, timeout: float):
        self.timeout, self.job, self.process = timeout, None, None
        self.pipe: Connection | None = None

    def give(self, job: _Job) -> None:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_work, args=(theirs, self.timeout), daemon=True)
            self.process.start()
            theirs.close()
            self.ready = False
        job.given, self.job = True, job
        self.since = time.monotonic()
        self.pipe.send((job.answer, job.reference))

    def collect(self) -> None:
        if self.job is None:
            return
        try:
            while self.pipe.poll():
                result = self.pipe.recv()
                if result == "ready":  # imports took a while; the job's time starts now
                    self.ready, self.since = True, time.monotonic()
                    continue
                correct, why = result
                self._end(correct, why)
                return
        except (EOFError, OSError):
            self.stop()
            self._end(None, "the checker ran out of memory or crashed")
            return
        if time.monotonic() - self.since > (self.timeout if self.ready else 60.0):
            self.stop()
            self._end(None, f"not decided within {self.timeout:g} s")

    def _end(self, correct: bool | None, why: str) -> None:
        self.job.decision = Decision(correct=correct, extracted=self.job.answer[:200], why=why)
        self.job = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def _work(pipe: Connection, timeout: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    equal.slow_equal("1", "2", timeout=timeout)  # imports
    pipe.send("ready")
    while True:
        try:
            answer, reference = pipe.recv()
        except EOFError:
            return
        try:
            found = equal.slow_equal(answer, reference, timeout=timeout)
            pipe.send((found, "math-verify" if found is not None else "math-verify could not parse it"))
        except Exception as error:  # whatever a parser raises on hostile text is one undecided pair
            pipe.send((None, f"math-verify raised {type(error).__name__}"))
