"""Plots of the report as inline images: SVG in a data URI, the same bytes for the same numbers."""

from __future__ import annotations

import base64
import collections
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from libra_jax.bench.score import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = {"svg.hashsalt": "libra_jax", "text.parse_math": False, "font.size": 9, "axes.spines.top": False,
          "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "lines.linewidth": 1.4,
          **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#7d7d7d")}
_COLOR = "#4c86cf"  # this blue and the grey are legible on white and on black
_COLUMNS = 3


def leaderboard(evaluations: Sequence[Evaluation]) -> str:
    """A dot with its interval for each judge's headline, first judge on top. Returns a data URI."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, each in enumerate(evaluations):
            estimate = each.metrics["mean_of_sources"]
            if estimate.low is not None:
                axes.plot([estimate.low, estimate.high], [place, place], color=_COLOR, linewidth=2, alpha=0.6)
            axes.plot([estimate.value], [place], "o", color=_COLOR, markersize=7)
            axes.annotate(f"{estimate.value:.3f}", (estimate.value, place), xytext=(0, 7), textcoords="offset points",
                          ha="center", fontsize=8)
        axes.axvline(0.5, color="#999", linestyle="--", linewidth=0.8)
        axes.set_yticks(range(len(evaluations)), labels=[each.judge[:40] for each in evaluations])
        axes.set_ylim(len(evaluations) - 0.4, -0.6)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("accuracy, mean of the sources (dashed: a coin on balanced examples)")

    return _image(draw, (8, 1.1 + 0.5 * len(evaluations)))


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
