"""Metrics of a run as JSON lines and TensorBoard events, and a progress line for people."""

from __future__ import annotations

import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence

from libra_jax import records

UNSEEN = "unseen"  # in the row of a step at which a watch has not looked yet (train/watching.py)


def row(step: int, metrics: Mapping[str, float]) -> dict[str, float]:
    """A step's row as `read` gives it back: floats, and NaN for all that is not finite."""
    values = {name: float(value) for name, value in metrics.items()}
    return {"step": step} | {name: value if math.isfinite(value) else math.nan for name, value in values.items()}


class Writer:
    """Writes `folder`/metrics.jsonl and TensorBoard events; lines of steps that a resumed run does again are cut.

    `rows` are those that were there and stay.
    """

    def __init__(self, folder: pathlib.Path, *, label: str, first_step: int, num_steps: int, every: float = 5.0):
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        # Step 0 has a row where a watch looks at it; who begins there looks again.
        self.rows = [row for row in _rows(old) if first_step and row["step"] <= first_step]
        records.write_text(path, "".join(line + "\n" for line in old[:len(self.rows)]))
        self._path, self._lines = path, path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
        self._label, self._first, self._total, self._every = label, first_step, num_steps, every
        self._start = self._last = time.monotonic()

    def write(self, row: Mapping[str, float], *, keep: bool = False) -> None:
        """Records the row of a step, and says on stderr how far the run is.

        `keep`: wait until the disk has it, as before a checkpoint, which must not outlive its metrics. What is not
        finite is written as null, which JSON has.
        """
        self._lines.write(_line(row))
        self._lines.flush()
        if keep:
            os.fsync(self._lines.fileno())
        if UNSEEN not in row:
            self._show(row)

    def complete(self, row: Mapping[str, float]) -> None:
        """Writes the last row again, as `row`; a run that is killed meanwhile leaves the one or the other."""
        self._lines.close()
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        records.write_text(self._path, "".join([*lines[:-1], _line(row)]))
        self._lines = self._path.open("a", encoding="utf-8")
        self._show(row)

    def _show(self, row: Mapping[str, float]) -> None:
        step = row["step"]
        for name, value in row.items():
            if name != "step" and math.isfinite(value):
                self._board.add_scalar(name, value, step)
        now = time.monotonic()
        if now - self._last >= self._every or step == self._total:
            self._last = now
            rate = (step - self._first) / max(now - self._start, 1e-9)
            values = ", ".join(f"{name} {value:.4g}" for name, value in list(row.items())[1:])
            print(f"{self._label}: step {step}/{self._total}, {rate:.2f} steps/s, "
                  f"{(self._total - step) / max(rate, 1e-9):.0f} s left, {values}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Flushes and closes both files."""
        self._lines.close()
        self._board.close()


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
