"""How far a run is, in a line for people: what matters most first, and not all that is measured."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection, Mapping

MOST = 8  # metrics of the training itself in a line
# In the order in which they are looked at. All others are in metrics.jsonl and TensorBoard alone.
ORDER = ("reward", "right", "margin", "accuracy", "loss", "tokens", "unparsed", "cut_off", "kl", "entropy", "surprise",
         "sampler_mismatch", "grad_norm")
SHARES = ("right", "accuracy", "unparsed", "cut_off")
WHEN_ABOVE_0 = ("skipped", "no_signal")
ERROR = "_stderr"  # the standard error of the metric whose name stands before


class Line:
    """Prints to stderr: on a terminal one line that is written over, elsewhere one each `every` seconds.

    What a watch measured has a line of its own, and stays in sight.
    """

    def __init__(self, label: str, *, first: int, total: int, every: float):
        self._label, self._first, self._total, self._every = label, first, total, every
        self._start = self._last = time.monotonic()
        self._watched = ""
        self._open = False  # whether the cursor stands at the end of a line that is to be written over

    def step(self, step: int, row: Mapping[str, float], rate: float | None) -> None:
        """The step's row; `rate` in tokens a second."""
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if now - self._last < (0.2 if terminal else self._every) and step != self._total:
            return
        self._last = now
        speed = (step - self._first) / max(now - self._start, 1e-9)
        text = f"{self._label}: step {step}/{self._total}, {_span((self._total - step) / max(speed, 1e-9))} left"
        text += self._watched + "".join(f", {part}" for part in shown(row))
        text += "" if rate is None else f", {rate:,.0f} tokens/s"
        if not terminal:
            print(text, file=sys.stderr, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width]}\x1b[K", end="", file=sys.stderr, flush=True)
        self._open = True

    def watched(self, step: int, measured: Mapping[str, float]) -> None:
        """What a watch measured after `step` steps."""
        parts = [value(name, number, measured.get(name + ERROR)) for name, number in measured.items()
                 if not name.endswith(ERROR)]
        if not parts:
            return
        self._watched = f", {parts[0]} at {step}"
        self.say(f"{self._label}: step {step}/{self._total}: {', '.join(parts)}")

    def say(self, text: str) -> None:
        """A line of its own."""
        self.close()
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the cursor on a fresh line."""
        if self._open:
            print(file=sys.stderr, flush=True)
        self._open = False


def shown(row: Mapping[str, float]) -> list[str]:
    """The metrics of a row that a line has room for."""
    return ([value(name, row[name]) for name in ordered(row)[:MOST]]
            + [value(name, row[name]) for name in WHEN_ABOVE_0 if row.get(name)])


def ordered(names: Collection[str]) -> list[str]:
    """Those of the metrics that a person looks at, what matters most first; of a mixture each kind's `right`."""
    place = {name: at for at, name in enumerate(ORDER)} | {name: ORDER.index("right") for name in names
                                                          if name.endswith("/right")}
    found = sorted((name for name in names if name in place), key=place.__getitem__)
    return [name for name in found if not (name == "loss" and "reward" in names)]  # RL's says nothing


def value(name: str, number: float, error: float | None = None) -> str:
    """A metric in words: "right 85.2%", "held_out_accuracy 87.1% +- 1.0%", "kl 0.0123"."""
    share = name.rpartition("/")[2] in SHARES or any(name.endswith(f"_{each}") for each in SHARES)
    form = (lambda number: f"{number:.1%}") if share else (lambda number: f"{number:.3g}")
    return f"{name} {form(number)}" + ("" if error is None else f" +- {form(error)}")


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
