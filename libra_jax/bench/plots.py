"""Plots of the report as inline images: SVG in a data URI, the same bytes for the same numbers."""

from __future__ import annotations

import base64
import collections
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from libra_jax.bench.score import Evaluation
from libra_jax.bench.significance import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from libra_jax.bench.best_of import Line
    from libra_jax.bench.significance import Estimate

_STYLE = {"svg.hashsalt": "libra_jax", "text.parse_math": False, "font.size": 9, "axes.spines.top": False,
          "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "lines.linewidth": 1.4,
          **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#7d7d7d")}
_COLOR = "#4c86cf"  # this blue and the grey are legible on white and on black
_LINES = ("#8a8a8a", "#c98a1b", _COLOR, "#b0569b", "#4f9d8f", "#c2573f", "#7a6fc4", "#6f8f2f")  # likewise
_COLUMNS = 3


def leaderboard(evaluations: Sequence[Evaluation]) -> str:
    """A dot with its interval for each judge's headline, first judge on top. Returns a data URI."""
    return shares([(each.judge, each.metrics["mean_of_sources"]) for each in evaluations],
                  "accuracy, mean of the sources (dashed: a coin on balanced examples)", dashed=0.5)


def shares(estimates: Sequence[tuple[str, Estimate]], label: str, *, dashed: float | None = None) -> str:
    """A dot from 0 to 1 with its interval for each named share, the first on top. Returns a data URI.

    `label` says what they are shares of; `dashed` is what they are to be compared with.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (_, estimate) in enumerate(estimates):
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [place, place], color=_COLOR, linewidth=2, alpha=0.6)
            value = _drawn(estimate)
            axes.plot([value], [place], "o", color=_COLOR, markersize=7)
            axes.annotate(f"{value:.3f}", (value, place), xytext=(0, 7), textcoords="offset points",
                          ha="center", fontsize=8)
        if dashed is not None:
            axes.axvline(dashed, color="#999", linestyle="--", linewidth=0.8)
        axes.set_yticks(range(len(estimates)), labels=[name[:40] for name, _ in estimates])
        axes.set_ylim(len(estimates) - 0.4, -0.6)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel(label)

    return _image(draw, (8, 1.1 + 0.5 * len(estimates)))


def lines(points_by_name: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str) -> str:
    """Named lines through points (x, y) in one plot, with the names of the axes. Returns a data URI."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        ends = [points[-1] for points in points_by_name.values()]
        shown = [value for points in points_by_name.values() for _, value in points]
        heights = _apart([end for _, end in ends], 0.06 * max(max(shown) - min(shown), 0.01))
        for place, (name, points) in enumerate(points_by_name.items()):
            color = _LINES[(place + 1) % len(_LINES)]
            axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=4)
            axes.annotate(name[:40], (max(end for end, _ in ends), heights[place]), xytext=(8, 0),
                          textcoords="offset points", color=color, va="center", fontsize=8, annotation_clip=False)
        axes.set_xlabel(x)
        axes.set_ylabel(y)

    return _image(draw, (7, 3.2))


def best_of(sizes: Sequence[int], lines: Sequence[Line]) -> str:
    """Accuracy over n for each picker, with intervals; the names stand at the lines' ends. Returns a data URI."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        ends = [_drawn(line.accuracy[-1]) for line in lines]
        shown = [end for line in lines for each in line.accuracy for end in (each.low, each.value, each.high)
                 if end is not None]
        reach = max(max(shown) - min(shown), 0.01)
        heights = _apart(ends, 0.05 * reach)
        for place, line in enumerate(lines):
            color = _LINES[place % len(_LINES)]
            at = [math.log2(n) + 0.03 * (place - (len(lines) - 1) / 2) for n in sizes]  # beside each other
            axes.plot(at, [_drawn(each) for each in line.accuracy], color=color, marker="o", markersize=4)
            for x, each in zip(at, line.accuracy, strict=True):
                if each.low is not None and each.high is not None:
                    axes.plot([x, x], [each.low, each.high], color=color, linewidth=1, alpha=0.5)
            axes.annotate(line.picker[:40], (at[-1], ends[place]), xytext=(math.log2(sizes[-1]) + 0.15, heights[place]),
                          textcoords="data", color=color, va="center", fontsize=8)
        axes.set_xticks([math.log2(n) for n in sizes], labels=[str(n) for n in sizes])
        axes.set_xlim(-0.2, math.log2(sizes[-1]) * 1.1 + 0.8)
        axes.set_xlabel("n, responses of which one is picked")
        axes.set_ylabel("share of picks that are right")

    return _image(draw, (7, 3.6))


def _drawn(estimate: Estimate) -> float:
    """Where an estimate's dot stands: of an undefined one nowhere."""
    return math.nan if estimate.value is None else estimate.value


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """The heights, moved up where they would stand closer than `least` above another."""
    moved, last = list(heights), -math.inf
    for place in sorted(range(len(heights)), key=heights.__getitem__):
        last = moved[place] = max(heights[place], last + least)
    return moved


def curves(points_by_name: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, str]:
    """One image a group of curves, the group being the name's part before the first "/". Points without value gap."""
    groups = collections.defaultdict(dict)
    for name, points in points_by_name.items():
        group, slash, inner = name.partition("/")
        if points:
            groups[group][inner if slash else name] = points
    return {group: _image(lambda figure, some=some: _panels(figure, some), (9, 2.3 * math.ceil(len(some) / _COLUMNS)))
            for group, some in groups.items()}


def scatter(points_by_name: Mapping[str, tuple[float, float]], x: str, y: str) -> str:
    """A named dot for each (x, y), with the names of the axes. Returns a data URI."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(*zip(*points_by_name.values(), strict=True), "o", color=_COLOR, markersize=6)
        for name, point in points_by_name.items():
            axes.annotate(name[:40], point, xytext=(5, 4), textcoords="offset points", fontsize=7)
        axes.margins(0.15)
        axes.set_xlabel(x)
        axes.set_ylabel(y)

    return _image(draw, (8, 5))


def _panels(figure: Figure, points_by_name: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    rows = math.ceil(len(points_by_name) / _COLUMNS)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, (name, points) in zip(panels, points_by_name.items(), strict=False):
        axes.plot(*zip(*points, strict=True), color=_COLOR, marker="." if len(points) < 40 else None, markersize=3)
        axes.set_title(name[:40], fontsize=9)
        axes.set_xlabel("step")
    for axes in panels[len(points_by_name):]:
        axes.set_axis_off()


def _image(draw, size: tuple[float, float]) -> str:
    import matplotlib  # here, since it takes half a second to import
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()


def svg(image: str) -> bytes:
    """The file of an image that this module made."""
    return base64.b64decode(image.partition(",")[2])
