"""Worker processes that compare answers, each bounded in time and memory, killed and replaced when they hang or die.

A worker is a fresh Python that imports neither JAX nor the caller's __main__, and talks JSON over a socket: nothing
that a worker sends is ever unpickled. Its limits: an address space of MEMORY bytes; a timer that interrupts a
comparison at 80 % of its time; CPU time that ends the process in C code no timer can interrupt, even if its parent is
gone; and the parent, which kills it at 100 %.
"""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

MEMORY = 2 << 30  # bytes of address space
START = 120.0  # seconds that starting Python and importing computer algebra may take on a busy machine
_SOFT = 0.8  # share of the time after which a worker interrupts itself
LATE, BROKEN = "time", "crash"  # what an item comes to instead of an answer


class Worker:
    """One process that answers items in order. `pending` are the items that it was given and has not answered."""

    def __init__(self, task: str, timeout: float, *arguments: str):
        """`task`: "compare", "decide" or "criteria"; `arguments` go to what answers it, in the process."""
        self._task, self._timeout, self._arguments = task, timeout, arguments
        self._process: subprocess.Popen | None = None
        self._pipe: Connection | None = None
        self.pending: list[Any] = []

    @property
    def pipe(self) -> Connection:
        """To the process; RuntimeError before it was first given something."""
        if self._pipe is None:
            raise RuntimeError("the worker was given nothing yet")
        return self._pipe

    def give(self, items: Sequence[Any]) -> None:
        """Sends items; a stopped worker starts anew."""
        if self.pending:
            raise ValueError(f"worker is busy with {len(self.pending)} items; collect them first")
        if self._process is None:
            self._start()
        self.pending = list(items)
        self._deadline = time.monotonic() + (START if self._fresh else self._timeout)
        try:
            self.pipe.send_bytes(json.dumps(self.pending).encode())
        except OSError:
            pass  # it died while idle; `collect` sees that

    def collect(self) -> list[Any]:
        """Answers that are there now, in order; LATE or BROKEN for an item at which the worker had to be replaced.

        Raises RuntimeError when a worker does not even start.
        """
        answers: list[Any] = []
        try:
            while self.pending and self.pipe.poll():
                message = json.loads(self.pipe.recv_bytes())
                self._fresh, self._greeted = message["loading"], True
                answers += message["answers"]
                del self.pending[:len(message["answers"])]
                self._deadline = time.monotonic() + (START if self._fresh else self._timeout)
        except (EOFError, OSError):
            return answers + self._replace(BROKEN)
        if self.pending and time.monotonic() > self._deadline:
            return answers + self._replace(LATE)
        return answers

    def wait_seconds(self) -> float:
        """Seconds until this worker's time is up."""
        return max(0.0, self._deadline - time.monotonic())

    def stop(self) -> None:
        """Kills the process; what is pending stays so."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.pipe.close()
            self._process = None

    def _replace(self, end: str) -> list[str]:
        status = self._end_status()
        if not self._greeted:
            raise RuntimeError(f"a verification worker did not start (exit status {status}); try by hand: "
                               f"{sys.executable} -c 'import libra_jax.verify.batch, math_verify'")
        if end == BROKEN and status == -signal.SIGPROF:  # its own limit of CPU time
            end = LATE
        rest = self.pending[1:]
        self.pending = []
        if rest:
            self.give(rest)
        return [end]

    def _end_status(self) -> int:
        try:
            status = self._process.wait(0.2) if self._process else 0
        except subprocess.TimeoutExpired:
            status = 0
        self.stop()
        return status

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        root = str(pathlib.Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "libra_jax.verify.workers", str(theirs.fileno()), self._task,
                   str(self._timeout), *self._arguments]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment,
                                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._pipe = Connection(ours.detach())
        self._fresh, self._greeted = True, False


class Comparer:
    """One worker for one pair of answers at a time; it lives as long as this process."""

    def __init__(self, timeout: float):
        self._worker = Worker("compare", timeout)
        atexit.register(self._worker.stop)

    def compare(self, answer: str, reference: str) -> bool | None:
        """Whether they are equal; None where undecided, for whatever reason."""
        self._worker.give([(answer, reference)])
        while not (answers := self._worker.collect()):
            self._worker.pipe.poll(min(0.5, self._worker.wait_seconds()))
        return answers[0] if answers[0] in (True, False) else None


class _Interrupted(BaseException):
    """The timer; no `except Exception` of a library swallows it."""


def _serve(pipe: Connection, answer: Callable[[Any, Callable[..., None]], Any], timeout: float) -> None:
    """The worker's side: answers lists of items until the parent is gone."""
    signal.signal(signal.SIGALRM, _interrupt)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    pipe.send_bytes(json.dumps({"answers": [], "loading": False}).encode())
    while True:
        try:
            items = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        answers: list[Any] = []

        def flush(loading: bool = False, answers: list = answers) -> None:
            pipe.send_bytes(json.dumps({"answers": answers, "loading": loading}).encode())
            answers.clear()

        for item in items:
            answers.append(_bounded(item, answer, flush, timeout))
        flush()


def _bounded(item: Any, answer: Callable[[Any, Callable[..., None]], Any], flush: Callable, timeout: float) -> Any:
    begun = False

    def heavy(algebra: bool = True) -> None:
        """Called before an item's heavy part: what is done so far is sent off, so that the parent knows the culprit."""
        nonlocal begun
        if begun:
            return
        begun = True
        if algebra and "math_verify" not in sys.modules:
            flush(True)
            import math_verify  # noqa: F401
            import sympy.physics.units  # noqa: F401 (else simplify imports it in the middle of a comparison)
        flush()
        signal.setitimer(signal.ITIMER_REAL, timeout * _SOFT)
        signal.setitimer(signal.ITIMER_PROF, timeout)

    try:
        return answer(item, heavy)
    except _Interrupted:
        return LATE
    except (MemoryError, RecursionError):
        return BROKEN
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def _interrupt(_signal: int, _frame: Any) -> None:
    raise _Interrupted


def _compare(item: Sequence[str], heavy: Callable[[], None]) -> bool | None:
    from libra_jax.verify import equal

    heavy()
    return equal.slow_equal(*item)


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    descriptor, task, timeout, *arguments = sys.argv[1:]
    from libra_jax.verify import batch

    if task == "criteria":
        from libra_jax.verify import criteria

        answer = criteria.answerer(*arguments)
    else:
        answer = {"compare": _compare, "decide": batch.answer}[task]
    _serve(Connection(int(descriptor)), answer, float(timeout))


if __name__ == "__main__":
    _main()
