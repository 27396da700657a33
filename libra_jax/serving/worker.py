"""The thread that draws: jobs of any number of requests enter one open engine, and hear of their samples."""

from __future__ import annotations

import collections
import dataclasses
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from libra_jax.sampling.engine import Sample
from libra_jax.sampling.session import Session


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Samples of one prompt that somebody wants; fields as Session.add, and `temperature`.

    All callbacks are called by the drawing thread and must return at once. `done` hears of each sample, `failed` once
    instead of what is missing, and `drawn`, if given, after each segment what there is of samples that still run.
    """

    prompt: Sequence[int]
    samples: Sequence[int]
    seed: int
    id: int
    budget: int
    temperature: float
    done: Callable[[Sample], None]
    failed: Callable[[Exception], None]
    drawn: Callable[[Mapping[int, tuple[np.ndarray, np.ndarray]]], None] | None = None


class Worker:
    """Draws jobs in the order in which they come. One whose temperature is not that of what is being drawn waits until
    that has ended, and those behind it wait too.

    An engine that fails (out of memory, say) fails the jobs in it, and a new one is made for the next. `dead` is what
    kept a new one from being made; nothing is drawn any more then.
    """

    def __init__(self, make: Callable[[], Session]):
        self._make = make
        self._news: collections.deque[tuple[bool, Job]] = collections.deque()  # (whether it is wanted, job)
        self._changed, self._stopped = threading.Condition(), False
        self._waiting: collections.deque[Job] = collections.deque()
        self._jobs: dict[int, Job] = {}  # by ticket
        self._session: Session | None = None
        self._earlier = 0  # tokens of former engines
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drawing", daemon=True)
        self.dead: Exception | None = None
        self.num_failures = 0

    def start(self) -> None:
        """Returns when the engine is made and its programs are compiled; raises what kept it from that."""
        self._thread.start()
        self._ready.wait()
        if self.dead:
            raise self.dead

    def stop(self, patience: float = 10.0) -> None:
        """Draws no more; what is under way is not told."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(patience)

    def submit(self, job: Job) -> None:
        """Takes a job on; from any thread."""
        self._tell(True, job)

    def cancel(self, job: Job) -> None:
        """Leaves off a job, if it is not done; its callbacks may be called a last time."""
        self._tell(False, job)

    @property
    def num_rows(self) -> int:
        """Rows that draw, as of the last look."""
        session = self._session
        return session.num_rows if session else 0

    @property
    def num_tokens(self) -> int:
        """Tokens drawn since the start."""
        session = self._session
        return self._earlier + (session.num_tokens if session else 0)

    def _tell(self, wanted: bool, job: Job) -> None:
        with self._changed:
            self._news.append((wanted, job))
            self._changed.notify()

    def _run(self) -> None:
        try:
            self._session = self._made()
        except Exception as error:
            self.dead = error
            return
        finally:
            self._ready.set()
        while self._listen():
            if self.dead:
                continue
            try:
                self._let_in()
                self._step()
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                self._fail(error)

    def _made(self) -> Session:
        """A new engine that has compiled what it needs, for its temperature and for 0."""
        session = self._make()
        usual = session.temperature
        for temperature in (0.0, usual):
            session.temperature = temperature
            session.add([0, 0], range(2), seed=0, id=0, budget=1)
            while session.busy:
                session.step()
        self._earlier -= session.num_tokens
        return session

    def _listen(self) -> bool:
        """Takes the news in, having waited for some where nothing is to be done; False at the end."""
        with self._changed:
            while not (self._stopped or self._news or self._jobs or self._waiting):
                self._changed.wait()
            if self._stopped:
                return False
            news = [self._news.popleft() for _ in range(len(self._news))]
        for wanted, job in news:
            if self.dead:
                job.failed(self.dead)
            elif wanted:
                self._waiting.append(job)
            else:
                self._leave(job)
        return True

    def _leave(self, job: Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
        ticket = next((ticket for ticket, other in self._jobs.items() if other is job), None)
        if ticket is not None and self._session:
            del self._jobs[ticket]
            self._session.cancel(ticket)

    def _open(self) -> Session:
        if self._session is None:
            raise RuntimeError("there is no engine")
        return self._session

    def _let_in(self) -> None:
        session = self._open()
        while self._waiting and (not session.busy or self._waiting[0].temperature == session.temperature):
            job = self._waiting.popleft()
            session.temperature = job.temperature
            try:
                ticket = session.add(job.prompt, job.samples, seed=job.seed, id=job.id, budget=job.budget)
            except ValueError as error:
                job.failed(error)
            else:
                self._jobs[ticket] = job

    def _step(self) -> None:
        session = self._open()
        for sample in session.step():
            self._jobs[sample.prompt].done(sample)
        for ticket in [ticket for ticket in self._jobs if not session.wants(ticket)]:
            del self._jobs[ticket]
        for ticket, job in self._jobs.items():
            if job.drawn:
                job.drawn(session.drawn(ticket))

    def _fail(self, error: Exception) -> None:
        self.num_failures += 1
        failed, self._jobs = list(self._jobs.values()), {}
        self._earlier += self._open().num_tokens
        self._session = None  # frees its memory before the next is made
        try:
            self._session = self._made()
        except Exception as worse:
            self.dead = worse
            failed += self._waiting
            self._waiting.clear()
        for job in failed:
            job.failed(error)
