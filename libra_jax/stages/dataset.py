r"""Anybody's parquet, JSON or Hub dataset becomes records of ours, and records a Hugging Face dataset.

    libra dataset --workdir=DIR --config.record=Problem --config.final=answer \
        --config.inputs=problems=hf://datasets/openai/gsm8k/main/test-*   # writes DIR/problems.jsonl
    libra dataset --workdir=DIR --config.record=JudgingExample --config.to=parquet \
        --config.inputs=train=sets/train.jsonl,test=sets/bench.jsonl      # writes DIR/dataset, for load_dataset

Rows that do not fit are set aside in rejected.jsonl with their file and number, and counted. What a field is where no
column is: data/columns.py. The same command writes the same bytes again, whole or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from libra_jax import records, runs
from libra_jax.bench import published
from libra_jax.command import entry
from libra_jax.data import columns, folders

_INPUT = re.compile(r"(?:(?P<split>[A-Za-z_]\w*)=)?(?P<path>.+)", re.ASCII)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    inputs: SPLIT=PATH or PATH (its split is "train"), each a file (parquet, JSON, JSON lines; these also gzipped), a
      folder of such, a pattern with *, or hf://datasets/OWNER/NAME@REVISION/PATH. The split names what is written.
    record: what a row is (libra_jax/records.py).
    columns: FIELD=COLUMN, where a column has another name than the field; a dot goes into what is nested, a number into
      a list: question=prompt.0.content.
    values: FIELD=VALUE, the same in every row.
    final: fields of which only the final answer is taken: what \\boxed{} holds, or what follows "####".
    to: jsonl, a file for each split, which the stages read; parquet, a folder for `datasets.load_dataset`.
    title: of the dataset's card; "": the first source's name.
    rows_per_file: of parquet.
    """

    inputs: tuple[str, ...] = ()
    record: Literal["Problem", "Rollout", "VerifiedRollout", "HumanLabel", "JudgingExample", "RankingExample",
                    "Judgement", "Score", "PreferencePair"] = "Problem"
    columns: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    to: Literal["jsonl", "parquet"] = "jsonl"
    title: str = ""
    rows_per_file: int = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """One split, where its rows are, and the name that they have for a source."""

    split: str
    path: str
    files: tuple[pathlib.Path, ...]
    source: str


def check(config: Config) -> None:
    """ValueError for what names no input, field or column."""
    runs.need(config, "inputs")
    if config.rows_per_file < 1:
        raise ValueError(f"rows_per_file={config.rows_per_file}: expected at least 1")
    named(config.inputs)
    _pairs(config.columns, "columns")
    _pairs(config.values, "values")


def look(config: Config) -> list[str]:
    """For --dry_run: how many files each input is; the Hub is not asked. ValueError for what is none."""
    found = []
    for split, path in named(config.inputs).items():
        files = () if path.startswith("hf://") else tuple(published.files(pathlib.Path(path)))
        found.append(f"{split}: {path}: {f'{len(files)} files' if files else 'not looked at'}")
    return found


def writes(config: Config) -> list[str]:
    """What `run` makes."""
    made = ["dataset"] if config.to == "parquet" else [f"{split}.jsonl" for split in named(config.inputs)]
    return [*made, "summary.json"]


def run(config: Config, workdir: pathlib.Path) -> dict[str, Any]:
    """Writes `workdir`/SPLIT.jsonl of each split, or `workdir`/dataset; returns the counts of each.

    ValueError where a split has no row that fits, naming the first that does not; also for what is no such input.
    """
    check(config)
    how = columns.Columns(record=columns.RECORDS[config.record], columns=_pairs(config.columns, "columns"),
                          values=_pairs(config.values, "values"), final=config.final)
    given = inputs(config.inputs)
    rejected: list[str] = []
    with contextlib.closing(published.Aside(rejected, workdir / "rejected.jsonl")) as aside:
        if config.to == "parquet":
            splits = [folders.Split(name=each.split, rows=rows(each, how, aside, rejected), origin=_origin(each))
                      for each in given]
            counts = folders.write(workdir / "dataset", how.record, splits, title=config.title or given[0].source,
                                   rows_per_file=config.rows_per_file)
        else:
            counts = {each.split: _write(workdir / f"{each.split}.jsonl", rows(each, how, aside, rejected))
                      for each in given}
    for line in rejected[:10]:
        print(f"set aside: {line}", file=sys.stderr)
    summary = {"record": config.record, **counts, "files": sum(len(each.files) for each in given),
               "set_aside": len(rejected), "path": str(workdir / ("dataset" if config.to == "parquet" else ""))}
    records.write_json(workdir / "summary.json", summary)
    runs.report(summary)
    return summary


def inputs(given: Sequence[str]) -> list[Input]:
    """The inputs by their words, those on the Hub downloaded. ValueError as `named`, or for what is not there."""
    found = []
    for split, path in named(given).items():
        files = tuple(published.files(published.resolve(path)))
        found.append(Input(split=split, path=path, files=files, source=_source(path, files)))
    return found


def named(given: Sequence[str]) -> dict[str, str]:
    """The path of each split. ValueError for two of one split or what is no input."""
    found: dict[str, str] = {}
    for text in given:
        parts = _INPUT.fullmatch(text)
        if not parts:
            raise ValueError(f"--config.inputs={text!r}: expected PATH or SPLIT=PATH")
        split = parts["split"] or "train"
        if split in found:
            raise ValueError(f"--config.inputs: two of the split {split!r}; name them, such as train=PATH,test=PATH")
        found[split] = parts["path"]
    return found


def rows(each: Input, how: columns.Columns, aside: published.Aside, rejected: list[str]) -> Iterator[Any]:
    """The records of one split, as they are read; ValueError at the end when there were none."""
    maker = columns.Maker(how, source=each.source, split=each.split)
    before, number, found = len(rejected), 0, 0
    for file in each.files:
        for row in published.read(file, ()):
            number += 1
            try:
                if row.fields is None:
                    raise records.RecordError(row.error)
                made = maker.make(row.fields, number)
            except records.RecordError as error:
                aside.add(file, row, error)
            else:
                found += 1
                yield made
    if not found:
        raise ValueError(f"{each.path}: no row is a {how.record.__name__}: " + (
            f"all {number} are set aside; the first: {rejected[before]}" if number else "there are no rows"))


def _write(path: pathlib.Path, some: Iterator[Any]) -> int:
    try:
        return records.write(path, some)
    except ValueError:
        path.with_name(path.name + ".partial").unlink(missing_ok=True)  # nothing goes on from it
        raise


def _pairs(given: Sequence[str], name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        field, equals, value = text.partition("=")
        if not equals or not field or field in found:
            raise ValueError(f"--config.{name}={text!r}: expected FIELD={'COLUMN' if name == 'columns' else 'VALUE'}, "
                             "each field once")
        found[field] = value
    return found


def _source(path: str, files: Sequence[pathlib.Path]) -> str:
    """NAME of a dataset on the Hub; else a file's name without its end, or the folder's."""
    if path.startswith("hf://"):
        return path.split("/")[4].partition("@")[0]
    return published.stem(files[0]) if len(files) == 1 else files[0].parent.name


def _origin(each: Input) -> str:
    """Without the folders of whoever made it: the place on the Hub, or the names of files with the hash of one."""
    if each.path.startswith("hf://"):
        return each.path
    with each.files[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    more = f" and {len(each.files) - 1} more" if len(each.files) > 1 else ""
    return f"{each.files[0].name}{more} (SHA-256 {digest[:16]})"


def main(argv: Sequence[str] | None = None) -> int:
    """`libra dataset`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=writes, look=look)


if __name__ == "__main__":
    raise SystemExit(main())
