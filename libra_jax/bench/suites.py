"""Suites: where judging examples with known labels come from, as judging examples of this package."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator

from libra_jax import records
from libra_jax.bench import published
from libra_jax.bench.layouts import LAYOUTS, Layout
from libra_jax.records import JudgingExample

SUITES = ("records", *LAYOUTS)


def load(name: str, path: str | os.PathLike, *, rejected: list[str] | None = None,
         aside: str | os.PathLike | None = None) -> tuple[JudgingExample, ...]:
    """All examples of the suite `name`: "records", JudgingExample as `libra curate` writes them, or one of LAYOUTS.

    `path` is a file; of a published suite also a folder of files, or a place on the Hub (published.resolve). Broken
    lines go to `aside` and `rejected` when the latter is given. Raises ValueError for an unknown suite, an example
    without label or with the id of another, or no examples; LayoutError, a ValueError, for a file without the suite's
    columns; FileNotFoundError for no such path; RecordError for a broken line.
    """
    if name not in SUITES:
        raise ValueError(f"suite {name!r}: expected one of {', '.join(SUITES)}")
    if name == "records":
        examples = tuple(records.read(path, JudgingExample, rejected=rejected, aside=aside))
        about = "JudgingExample, as `libra curate` writes them"
    else:
        examples = tuple(_examples(LAYOUTS[name], published.resolve(path), rejected, aside))
        about = f"rows of {LAYOUTS[name].about}"
    if not examples:
        broken = f"; all lines are broken, the first: {rejected[0]}" if rejected else ""
        raise ValueError(f"{path}: no examples; expected {about}{broken}")
    unlabelled = sum(example.correct is None for example in examples)
    if unlabelled:
        raise ValueError(f"{path}: {unlabelled} of {len(examples)} examples have no label, so nobody can be measured "
                         "on them")
    twice = [name for name, count in collections.Counter(example.id for example in examples).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: {len(twice)} ids are there more than once, such as {twice[0]!r}; give one copy of "
                         "the data")
    return examples


def _examples(layout: Layout, path: pathlib.Path, rejected: list[str] | None,
              aside: str | os.PathLike | None) -> Iterator[JudgingExample]:
    """Rows that do not fit are set aside like broken lines of records."""
    with contextlib.closing(published.Aside(rejected, aside)) as misfits:
        for file in published.files(path):
            named = {layout.file_column: published.stem(file)} if layout.file_column and path.is_dir() else {}
            yield from _of_file(layout, file, named, misfits.add)


def _of_file(layout: Layout, file: pathlib.Path, named: dict[str, str],
             misfit: Callable[[pathlib.Path, published.Row, ValueError], None]) -> Iterator[JudgingExample]:
    """The examples of the rows of `file` that fit, the others given to `misfit`; LayoutError when none has the columns.

    `named` gives a column to rows that lack it.
    """
    unknown: published.LayoutError | None = None
    known = False
    for row in published.read(file, layout.columns, optional=tuple(named)):
        try:
            if row.fields is None:
                raise records.RecordError(row.error)
            fields = named | row.fields
            published.need(layout.columns, fields)
            known = True
            examples = layout.convert(fields)
        except published.LayoutError as error:
            unknown = unknown or error
            misfit(file, row, error)
        except records.RecordError as error:
            misfit(file, row, error)
        else:
            yield from examples
    if unknown and not known:
        raise published.LayoutError(f"{file}: not {layout.about}: {unknown}")
