"""Preemption: SIGTERM (a spot machine has 30 seconds left) asks a run to save and stop, on all hosts at one step."""

from __future__ import annotations

import signal
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils


class Preempted(SystemExit):
    """The run was asked to stop, and has saved. Where nothing catches it, the process ends with 143, 128 + SIGTERM."""

    def __init__(self):
        super().__init__(143)


class Notice:
    """While entered, a SIGTERM is noted instead of ending the process; only the main thread of a process hears it.

    The signal is only ever noted, never raised as an exception where it happens to arrive: that may be inside a library
    (TensorFlow's iterators, for one, then leave a broken heap).
    """

    def __init__(self):
        self.asked = False

    def __enter__(self) -> Notice:
        self._hears = threading.current_thread() is threading.main_thread()
        if self._hears:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        _entered.append(self)
        return self

    def __exit__(self, *_) -> None:
        _entered.remove(self)
        if self._hears:  # a handler that was not set from Python cannot be put back from it
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._previous is None else self._previous)

    def agreed(self) -> bool:
        """Whether any process was asked to stop; all of them call this after the same step."""
        if jax.process_count() == 1:
            return self.asked
        return bool(multihost_utils.process_allgather(np.asarray(self.asked, np.int32)).any())

    def _note(self, *_) -> None:
        self.asked = True


_entered: list[Notice] = []


def look() -> None:
    """For long work that may be left half done, in any thread: raises Preempted if this process was asked to stop.

    Only where one process runs: several could not leave off at the same place.
    """
    if jax.process_count() == 1 and any(notice.asked for notice in _entered):
        raise Preempted
