"""Metrics of a run as JSON lines and TensorBoard events, and a progress line for people."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Mapping


class Writer:
    """Writes `folder`/metrics.jsonl and TensorBoard events; lines of steps that a resumed run does again are cut."""

    def __init__(self, folder: pathlib.Path, *, label: str, first_step: int, num_steps: int, every: float = 5.0):
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        old = [row for row in read(path) if row["step"] <= first_step] if path.exists() else []
        path.write_text("".join(json.dumps(row) + "\n" for row in old), encoding="utf-8")
        self._lines = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
        self._label, self._first, self._total, self._every = label, first_step, num_steps, every
        self._start = self._last = time.monotonic()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of step number `step` (from 1), and says on stderr how far the run is."""
        row = {"step": step} | {name: float(value) for name, value in metrics.items()}
        self._lines.write(json.dumps(row) + "\n")
        self._lines.flush()
        for name, value in row.items():
            if name != "step":
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
    """The rows of a metrics.jsonl, a torn last line left out."""
    rows = []
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
