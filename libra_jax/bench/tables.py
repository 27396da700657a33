"""Tables of the report, as text for a terminal; page.py has them as HTML."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from libra_jax.bench.significance import Estimate

if TYPE_CHECKING:
    from libra_jax.bench.noise import Share


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table: `rows` of cells, as many as `header` has; numbers are written with three digits after the point."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""


def show(estimate: Estimate | Share) -> str:
    """An estimate in words: "0.812 [0.790, 0.834]", or "-" where it is undefined."""
    if estimate.value is None:
        return "-"
    interval = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{interval}"


def show_p(value: float | None) -> str:
    """A p-value with two significant digits: "0.034", "2.1e-09", or "-" where there is no test."""
    return "-" if value is None else f"{value:.2g}"


def cell(value: Any) -> str:
    """The text of a cell."""
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)


def to_text(table: Table) -> str:
    """A table for a terminal, columns aligned."""
    cells = [list(map(str, table.header)), *([cell(value) for value in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([table.title, *lines])
