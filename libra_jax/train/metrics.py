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


class Writer:
    """Writes `folder`/metrics.jsonl and TensorBoard events; lines of steps that a resumed run does again are cut."""

    def __init__(self, folder: pathlib.Path, *, label: str, first_step: int, num_steps: int, every: float = 5.0):
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = sum(row["step"] <= first_step for row in _rows(old))
        records.write_text(path, "".join(line + "\n" for line in old[:kept]))
        self._lines = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
        self._label, self._first, self._total, self._every = label, first_step, num_steps, every
        self._start = self._last = time.monotonic()

    def write(self, step: int, metrics: Mapping[str, float], *, keep: bool = False) -> None:
        """Records the metrics of step number `step` (from 1), and says on stderr how far the run is.

        `keep`: wait until the disk has it, as before a checkpoint, which must not outlive its metrics. What is not
        finite is written as null, which JSON has.
        """
        row = {"step": step} | {name: float(value) for name, value in metrics.items()}
        line = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
        if keep:
            os.fsync(self._lines.fileno())
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


def _rows(lines: Sequence[str]) -> list[dict]:
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        rows.append({name: math.nan if value is None else value for name, value in row.items()})
    return rows
