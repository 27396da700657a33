"""Charts as HTML and SVG that follow the page's colours and width: dots with intervals, and reliability plots.

They are made of numbers and escaped names alone; page.py has their style.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from libra_jax.bench.calibration import Bin
from libra_jax.bench.significance import Estimate
from libra_jax.bench.slices import Sliced
from libra_jax.bench.tables import show

NUM_COLORS = 8  # of page.py: c0 to c7


def legend(judges: Sequence[str]) -> str:
    """The judges with their colours."""
    names = "".join(f'<li><i class="swatch c{place % NUM_COLORS}"></i>{html.escape(judge)}</li>'
                    for place, judge in enumerate(judges))
    return f'<ul class="legend">{names}</ul>'


def leaderboard(judges: Sequence[str], estimates: Sequence[Estimate]) -> str:
    """A row for each judge, the best on top: its name, a dot with its interval from 0 to 1, and the number."""
    order = sorted(range(len(judges)), key=lambda place: (-(estimates[place].value or 0), place))
    return _chart([_row(judges[place], _value(estimates[place]), track([(place, estimates[place])]))
                   for place in order])


def sliced(judges: Sequence[str], measured: Sequence[Sliced]) -> str:
    """A row for each slice of one kind, with a dot and interval for each judge; `measured` is in the judges' order."""
    rows = []
    for number, each in enumerate(measured[0].slices):
        dots = [(place, of.slices[number].accuracy) for place, of in enumerate(measured)]
        rows.append(_row(each.name, f"{each.num_examples:,}", track(dots)))
    return _chart(rows)


def differences(names: Sequence[str], estimates: Sequence[Estimate]) -> str:
    """A row for each pair of judges around 0; the scale is the widest interval's."""
    ends = [abs(end) for each in estimates for end in (each.value, each.low, each.high) if end is not None]
    reach = max([*ends, 0.01]) * 1.05
    rows = []
    for name, each in zip(names, estimates, strict=True):
        color = "higher" if (each.low or 0) > 0 else "lower" if (each.high or 0) < 0 else "even"
        rows.append(_row(name, _value(each, sign="+"), track([(color, each)], -reach, reach, zero=True)))
    return _chart(rows, (f"{-reach:.2f}", "0", f"+{reach:.2f}"))


def track(dots: Sequence[tuple[int | str, Estimate]], low: float = 0.0, high: float = 1.0, *,
          zero: bool = False) -> str:
    """A line from `low` to `high` with dots and intervals one below the other, each in a colour (number or class)."""
    made = []
    for color, each in dots:
        if each.value is None:
            made.append('<span class="dot-row"></span>')
            continue
        name = f"c{color % NUM_COLORS}" if isinstance(color, int) else color
        bar = ""
        if each.low is not None and each.high is not None:
            start, end = (_share(end, low, high) for end in (each.low, each.high))
            bar = f'<i class="{name}" style="left:{start:.2f}%;width:{end - start:.2f}%"></i>'
        dot = f'<b class="{name}" style="left:{_share(each.value, low, high):.2f}%"></b>'
        made.append(f'<span class="dot-row">{bar}{dot}</span>')
    label = "; ".join(show(each) for _, each in dots)
    return f'<div class="track{" zero" if zero else ""}" role="img" aria-label="{label}">{"".join(made)}</div>'


def reliability(judge: str, place: int, bins: Sequence[Bin]) -> str:
    """A square plot of share correct over mean score, with intervals, on the diagonal of a calibrated judge."""
    color, size = f"c{place % NUM_COLORS}", 200
    most = max(each.num_examples for each in bins)
    parts = [f'<line class="ideal" x1="0" y1="{size}" x2="{size}" y2="0"/>']
    points = []
    for each in bins:
        x, y = size * each.score, size * (1 - (each.correct.value or 0))
        points.append(f"{x:.1f},{y:.1f}")
        if each.correct.low is not None and each.correct.high is not None:
            low, high = (size * (1 - end) for end in (each.correct.low, each.correct.high))
            parts.append(f'<line class="{color} whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        radius = 2 + 4 * (each.num_examples / most) ** 0.5
        says = f"score {each.score:.3f}: {show(each.correct)} correct, {each.num_examples} examples"
        parts.append(f'<circle class="{color}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{says}</title>'
                     "</circle>")
    parts.insert(1, f'<polyline class="{color}" points="{" ".join(points)}"/>')
    ticks = "".join(f'<text x="{size * at}" y="{size + 14}" text-anchor="middle">{at:g}</text>'
                    f'<text x="-6" y="{size * (1 - at) + 4}" text-anchor="end">{at:g}</text>' for at in (0, 0.5, 1))
    name = html.escape(judge)
    return (f'<figure class="reliability"><figcaption>{name}</figcaption>'
            f'<svg viewBox="-26 -8 {size + 40} {size + 44}" role="img" aria-label="reliability of {name}">'
            f'<rect class="frame" width="{size}" height="{size}"/>{ticks}'
            f'<text x="{size / 2}" y="{size + 30}" text-anchor="middle">mean score</text>{"".join(parts)}</svg>'
            "</figure>")


def _share(value: float, low: float, high: float) -> float:
    return 100 * min(1.0, max(0.0, (value - low) / (high - low)))


def _value(estimate: Estimate, sign: str = "") -> str:
    if estimate.value is None:
        return "-"
    interval = "" if estimate.low is None else f" <small>{estimate.low:{sign}.3f} to {estimate.high:{sign}.3f}</small>"
    return f"<strong>{estimate.value:{sign}.3f}</strong>{interval}"


def _row(name: str, value: str, drawn: str) -> str:
    return f'<div class="name">{html.escape(name)}</div><div class="value">{value}</div>{drawn}'


def _chart(rows: Sequence[str], ticks: Sequence[str] = ("0", ".25", ".5", ".75", "1")) -> str:
    axis = "".join(f"<span>{tick}</span>" for tick in ticks)
    return f'<div class="chart">{"".join(rows)}<div class="axis">{axis}</div></div>'
