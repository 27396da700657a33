"""Preemption: SIGTERM (a spot machine has 30 seconds left) asks a run to save and stop, on all hosts at one step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils


class Preempted(SystemExit):
    """The run was asked to stop, and has saved. Where nothing catches it, the process ends with status 0."""

    def __init__(self):
        super().__init__(0)


class Notice:
    """While entered, a SIGTERM is noted instead of ending the process; only the main thread of a process hears it."""

    def __init__(self):
        self.asked = False
        self._at_once = False

    def __enter__(self) -> Notice:
        self._hears = threading.current_thread() is threading.main_thread()
        if self._hears:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_) -> None:
        if self._hears:  # a handler that was not set from Python cannot be put back from it
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._previous is None else self._previous)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Work that may be left half done (drawing samples takes minutes): Preempted is raised in the midst of it.

        Only where one process runs: several could not leave off at the same place.
        """
        self._at_once = jax.process_count() == 1
        try:
            if self._at_once and self.asked:
                raise Preempted
            yield
        finally:
            self._at_once = False

    def agreed(self) -> bool:
        """Whether any process was asked to stop; all of them call this after the same step."""
        if jax.process_count() == 1:
            return self.asked
        return bool(multihost_utils.process_allgather(np.asarray(self.asked, np.int32)).any())

    def _note(self, *_) -> None:
        self.asked = True
        if self._at_once:
            self._at_once = False  # a second signal does not disturb the saving
            raise Preempted
