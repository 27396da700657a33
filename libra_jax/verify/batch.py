"""Decides many (solution, reference) pairs on all cores, each bounded in time and memory, in their order.

Pairs go to workers in chunks; a worker extracts, compares exactly, and only where that does not decide calls
math-verify. A pair at which a worker hangs or dies is undecided; the worker is replaced and goes on behind it.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import dataclasses
import functools
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from libra_jax.verify import equal, extract, workers

CHUNK = 64  # pairs a worker is given at once
CHUNK_SIZE = 1 << 20  # characters after which a chunk is closed
AHEAD = 4  # chunks under way or waiting for their turn, for each worker
HEAVY = 20_000  # characters of a text that is announced before it is read
SHOWN = 80  # characters of an answer in `why`
KEPT = 1_000  # characters of an answer in `extracted`
_FIRST = {"answer": "1+x", "reference": "x+1"}  # the exact path leaves it to computer algebra


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """`correct` None: undecided. `extracted`: the final answer (its first KEPT characters), None if there is none."""

    correct: bool | None
    extracted: str | None
    why: str


class Pool:
    """Workers that stay for many calls, for those who decide again and again: starting them takes seconds.

    Works in one stream of decisions at a time. `with Pool() as pool:` or `close` ends the processes.
    """

    def __init__(self, *, num_workers: int | None = None, timeout: float = 5.0, task: Sequence[str] = ("decide",)):
        """`num_workers`: processes, default one a core; `timeout`: seconds after which a pair is undecided.

        `task` is what the workers do, with its arguments; "decide" serves all but `stream`.
        """
        if timeout <= 0:
            raise ValueError(f"timeout={timeout}: expected seconds above 0")
        self.timeout, self._streaming = timeout, False
        self._workers = [workers.Worker(task[0], timeout, *task[1:]) for _ in range(num_workers or os.cpu_count() or 1)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts every worker and has it load computer algebra; without this the first calls wait for that."""
        self._claim()
        try:
            for worker in self._workers:
                worker.give([_FIRST])
            for worker in self._workers:
                while worker.pending:
                    worker.collect()
                    if worker.pending:
                        worker.pipe.poll(min(0.5, worker.wait_seconds()))
        finally:
            self._release()

    def decide(self, pairs: Iterable[tuple[str, str]]) -> Iterator[Decision]:
        """As the function `decide`."""
        return self._decisions({"text": text, "reference": reference} for text, reference in pairs)

    def compare(self, pairs: Iterable[tuple[str, str]]) -> Iterator[Decision]:
        """As the function `compare`."""
        return self._decisions({"answer": answer, "reference": reference} for answer, reference in pairs)

    def close(self) -> None:
        """Ends the processes; a later call starts them anew."""
        for worker in self._workers:
            worker.stop()
            worker.pending = []

    def _claim(self) -> None:
        if self._streaming:
            raise ValueError("this pool is at another stream of decisions; take or close() that first, or make another")
        self._streaming = True

    def _release(self) -> None:
        for worker in self._workers:
            if worker.pending:  # of a stream that was left early: nobody waits for it, and its answers would come late
                worker.stop()
                worker.pending = []
        self._streaming = False

    def _decisions(self, items: Iterable[dict[str, str]]) -> Iterator[Decision]:
        with contextlib.closing(self.stream(items)) as answers:
            for item, result in answers:
                yield _decision(result, item, self.timeout)

    def stream(self, items: Iterable[dict[str, str]]) -> Generator[tuple[dict[str, str], Any], None, None]:
        """Each item with what a worker answers to it, or workers.LATE or BROKEN where it hung or died; in order."""
        self._claim()
        chunks, pool = _chunks(iter(items)), self._workers
        doing: dict[int, tuple[list, list]] = {}  # worker: the chunk that it is at, and its results so far
        queue: collections.deque[tuple[list, list]] = collections.deque()  # chunks in order, with their results
        try:
            following = next(chunks, None)
            while following or queue:
                for index, worker in enumerate(pool):
                    if index in doing:
                        chunk, results = doing[index]
                        results += zip(chunk[len(results):], worker.collect(), strict=False)
                        if len(results) == len(chunk):
                            del doing[index]
                    if following and index not in doing and len(queue) < AHEAD * len(pool):
                        doing[index] = (following, [])
                        queue.append(doing[index])
                        worker.give(following)
                        following = next(chunks, None)
                while queue and len(queue[0][0]) == len(queue[0][1]):
                    yield from queue.popleft()[1]
                if doing:
                    busy = [pool[index] for index in doing]
                    multiprocessing.connection.wait([worker.pipe for worker in busy],
                                                    min(0.5, *(worker.wait_seconds() for worker in busy)))
        finally:
            self._release()


def decide(pairs: Iterable[tuple[str, str]], *, num_workers: int | None = None,
           timeout: float = 5.0) -> Iterator[Decision]:
    """Streams a decision for each (solution text, reference answer), and ends its workers; see Pool for many calls.

    A solution without a final answer is incorrect: it did not answer. Undecided is what cannot be compared: hostile or
    unreadable answers, and what takes longer than `timeout` seconds. `num_workers`: processes, default one a core.
    Results do not depend on `num_workers`; no more than AHEAD chunks a worker are read ahead of what is taken.
    """
    with Pool(num_workers=num_workers, timeout=timeout) as pool:
        yield from pool.decide(pairs)


def compare(pairs: Iterable[tuple[str, str]], *, num_workers: int | None = None,
            timeout: float = 5.0) -> Iterator[Decision]:
    """As `decide`, for pairs of (answer, reference answer): nothing is extracted."""
    with Pool(num_workers=num_workers, timeout=timeout) as pool:
        yield from pool.compare(pairs)


def answer(item: dict[str, str], heavy: Callable[[], None]) -> tuple[bool | None, str | None, str]:
    """The worker's part: correct, extracted and why of one item; calls `heavy` before what may take long."""
    reference = item["reference"]
    if len(item.get("text", "")) + len(reference) > HEAVY:
        heavy()
    found = item["answer"] if "answer" in item else extract.extract(item["text"])
    if found is None:
        return False, None, "no final answer found"
    kept = found[:KEPT]
    decided = equal.fast_equal(found, reference)
    if decided is None:
        reason = equal.hostile(found) or equal.hostile(reference)
        if reason:
            return None, kept, f"undecided: {reason}"
        heavy()
        decided = equal.slow_equal(found, reference)
    verb = {True: "equals", False: "differs from", None: "and"}[decided]
    why = f"{_shown(found)} {verb} the reference {_shown(reference)}"
    return decided, kept, why if decided is not None else f"undecided: cannot compare {why}"


def _chunks(items: Iterator[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    chunk: list[dict[str, str]] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += sum(map(len, item.values()))
        if len(chunk) >= CHUNK or size >= CHUNK_SIZE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _decision(result: Any, item: dict[str, str], timeout: float) -> Decision:
    if isinstance(result, str):
        found = item["answer"] if "answer" in item else extract.extract(item["text"])
        why = {workers.LATE: f"no decision within {timeout:g} s",
               workers.BROKEN: "the comparison ran out of memory or crashed"}[result]
        return Decision(correct=None, extracted=found and found[:KEPT], why=f"undecided: {why}")
    correct, extracted, why = result
    return Decision(correct=correct, extracted=extracted, why=why)


def _shown(answer: str) -> str:
    return repr(answer) if len(answer) <= SHOWN else repr(answer[:SHOWN]) + "..."


def verify_answer(response: str, reference: str) -> Decision:
    r"""Whether the final answer of `response` equals `reference`, by the rules of the verify stage.

    What takes computer algebra is decided in a process of its own, bounded in time (5 s) and memory, which starts with
    the first such call and stays, so any text is safe; of several threads one waits for the other. `decide` is for
    many. ValueError for what is no text. Worked: verify_answer(r"So \boxed{1/2}.", "0.5").correct is True; a response
    without a final answer is incorrect.
    """
    for name, text in (("response", response), ("reference", reference)):
        if not isinstance(text, str):
            raise ValueError(f"{name} is {text!r:.60}, a {type(text).__name__}; expected a text, such as '54'")
    item = {"text": response, "reference": reference}
    try:
        return _decision(answer(item, _postpone), item, 0.0)
    except _Postponed:
        with _ONE_AT_A_TIME:
            (decision,) = _own_worker().decide([(response, reference)])
        return decision


class _Postponed(Exception):
    """The decision may take long, and is not made in this process."""


def _postpone() -> None:
    raise _Postponed


@functools.cache
def _own_worker() -> Pool:
    pool = Pool(num_workers=1)
    atexit.register(pool.close)
    return pool


_ONE_AT_A_TIME = threading.Lock()
