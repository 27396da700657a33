"""A watch over a run: what it measures every so many steps, apart from its training data, and whether it may end.

A watch is a callable that is given the steps done, their parameters and the rows of metrics before, and returns metrics
by name. It must be a pure function of these (its own seeds fixed), and on several hosts the same on all of them: then a
resumed run is the same run, and all hosts end at one step.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from libra_jax import records, runs
from libra_jax.train import metrics

Rows = Sequence[Mapping[str, float]]  # as metrics.read gives them
Watch = Callable[[int, Any, Rows], Mapping[str, float]]  # (steps done, parameters, rows before) -> metrics
NOTE = "stopped.json"  # in the folder of a run that its watch ended: {"step": 30, "reason": "..."}


class Enough(Exception):
    """A watch raises it to end the run after this step; `metrics` are logged with it, `reason` goes to the summary."""

    def __init__(self, reason: str, metrics: Mapping[str, float]):
        super().__init__(reason)
        self.reason, self.metrics = reason, dict(metrics)


class Watcher:
    """Calls a watch when it is due: at step 0, after every `every` steps (0: never between) and after the last one.

    A step's row is written before its look, marked as not looked at, so that a run which is stopped in a long look
    saves that step, and looks when it goes on.
    """

    def __init__(self, watch: Watch | None, every: int, num_steps: int, workdir: pathlib.Path, label: str):
        if every < 0:
            raise ValueError(f"watch_every={every}: expected the steps between two looks, or 0 for the ends alone")
        self._watch, self._every, self._num_steps = watch, every, num_steps
        self._workdir, self._label = workdir, label
        self._rows: list[dict[str, float]] = []

    def begin(self, first: int, writer: metrics.Writer | None) -> tuple[bool, bool]:
        """Learns what was done up to step `first`; (whether the run ended there, whether a look at it is still due)."""
        if not self._watch:
            return False, False

        def there() -> bytes:
            note = stopped(self._workdir)
            if note and note["step"] != first:  # the run goes on from before
                (self._workdir / NOTE).unlink()
            return json.dumps([bool(note) and note["step"] == first, writer.rows if writer else []]).encode()

        ended, self._rows = json.loads(runs.from_first(there))
        if first == 0:
            self.follow(0, {}, writer)
        return ended, bool(self._rows) and metrics.UNSEEN in self._rows[-1]

    def due(self, step: int) -> bool:
        """Whether the watch looks at the parameters after `step` steps."""
        ends = step in (0, self._num_steps)
        return bool(self._watch) and (ends or (self._every > 0 and step % self._every == 0))

    def follow(self, step: int, measured: Mapping[str, float], writer: metrics.Writer | None, **how: Any) -> None:
        """Takes the row of a step, and writes it (`how`: as metrics.Writer.write)."""
        row = metrics.row(step, {**measured, **({metrics.UNSEEN: 1.0} if self.due(step) else {})})
        if self._watch:
            self._rows.append(row)
        if writer:
            writer.write(row, **how)

    def look(self, step: int, params: Any, writer: metrics.Writer | None) -> bool:
        """Adds to the last row what the watch measures; says whether the run ends here, of which it leaves the note."""
        if not self._watch:
            return False
        row = {name: value for name, value in self._rows[-1].items() if name not in ("step", metrics.UNSEEN)}
        ends, reason = False, ""
        try:
            seen = self._watch(step, params, tuple(self._rows[:-1]))
        except Enough as enough:
            seen, reason, ends = enough.metrics, enough.reason, step < self._num_steps
        seen = {name: float(value) for name, value in seen.items()}
        self._rows[-1] = metrics.row(step, row | seen)
        if writer:
            if ends:
                records.write_json(self._workdir / NOTE, {"step": step, "reason": reason})
            writer.complete(self._rows[-1], seen)
            if ends:
                writer.say(f"{self._label}: ends after step {step}/{self._num_steps}: {reason}")
        return ends


def stopped(workdir: pathlib.Path) -> dict[str, Any]:
    """{"step", "reason"} of a run that its watch ended; empty where none did."""
    note = workdir / NOTE
    return json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
