"""Metrics of a run as JSON lines and TensorBoard events, and a progress line for people."""

from __future__ import annotations

import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

from libra_jax import records
from libra_jax.train import board as boards
from libra_jax.train import progress, tracking

UNSEEN = "unseen"  # in the row of a step at which a watch has not looked yet (train/watching.py)


def row(step: int, metrics: Mapping[str, float]) -> dict[str, float]:
    """A step's row as `read` gives it back: floats, and NaN for all that is not finite."""
    values = {name: float(value) for name, value in metrics.items()}
    return {"step": step} | {name: value if math.isfinite(value) else math.nan for name, value in values.items()}


class Writer:
    """Writes `folder`/metrics.jsonl and TensorBoard events; lines of steps that a resumed run does again are cut.

    `track`, given what says a line to people, makes what else is told of every step (train/tracking.py).
    `rows` are those that were there and stay. `learning_rate` (step) and the tokens a second go to TensorBoard alone:
    metrics.jsonl holds what is the same in every run.
    """

    def __init__(self, folder: pathlib.Path, *, label: str, first_step: int, num_steps: int, every: float = 5.0,
                 learning_rate: Callable[[int], float] | None = None,
                 track: Callable[[Callable[[str], None]], tracking.Tracker] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        # Step 0 has a row where a watch looks at it; who begins there looks again.
        self.rows = [row for row in _rows(old) if first_step and row["step"] <= first_step]
        records.write_text(path, "".join(line + "\n" for line in old[:len(self.rows)]))
        self._path, self._lines = path, path.open("a", encoding="utf-8")
        self._board = boards.Board(folder / "tensorboard", first=first_step and first_step + 1)
        self._line = progress.Line(label, first=first_step, total=num_steps, every=every)
        self._boards = [self._board, *([track(self._line.say)] if track else [])]
        self._learning_rate, self._mark = learning_rate, time.monotonic()

    def write(self, row: Mapping[str, float], *, num_tokens: float | None = None, keep: bool = False) -> None:
        """Records the row of a step, for which `num_tokens` were trained on, and says how far the run is.

        `keep`: wait until the disk has it, as before a checkpoint, which must not outlive its metrics. What is not
        finite is written as null, which JSON has.
        """
        self._lines.write(_line(row))
        self._lines.flush()
        seconds = max(time.monotonic() - self._mark, 1e-9)
        rate = None if num_tokens is None else num_tokens / seconds
        step, values = int(row["step"]), {name: value for name, value in row.items() if name not in ("step", UNSEEN)}
        also = {} if rate is None else {"tokens_per_second": rate}
        if self._learning_rate and step:
            also["learning_rate"] = self._learning_rate(step)
        for board in self._boards:
            board.write(step, values | also)
        if keep:
            os.fsync(self._lines.fileno())
            self._board.flush()
        if step:
            self._line.step(step, values, rate)
        self._mark = time.monotonic()

    def complete(self, row: Mapping[str, float], measured: Mapping[str, float]) -> None:
        """Writes the last row again, as `row`, to which a watch added `measured`.

        A run that is killed meanwhile leaves the one or the other.
        """
        self._lines.close()
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        records.write_text(self._path, "".join([*lines[:-1], _line(row)]))
        self._lines = self._path.open("a", encoding="utf-8")
        step = int(row["step"])
        for board in self._boards:
            board.write(step, measured)
        self._board.flush()
        self._line.watched(step, measured)
        self._mark = time.monotonic()

    def say(self, text: str) -> None:
        """A line on stderr, beside the progress."""
        self._line.say(text)

    def close(self) -> None:
        """Flushes and closes both files."""
        self._line.close()
        self._lines.close()
        for board in self._boards:
            board.close()


def read(path: pathlib.Path) -> list[dict]:
    """The rows of a metrics.jsonl, a torn last line left out; null is NaN."""
    return _rows(pathlib.Path(path).read_text(encoding="utf-8").splitlines())


def _line(row: Mapping[str, float]) -> str:
    return json.dumps({name: value if math.isfinite(value) else None for name, value in row.items()}) + "\n"


def _rows(lines: Sequence[str]) -> list[dict]:
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        rows.append({name: math.nan if value is None else value for name, value in row.items()})
    return rows
