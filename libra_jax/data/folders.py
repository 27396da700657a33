"""A folder that `datasets.load_dataset` and the Hugging Face Hub read: parquet files and a README.md that names them.

Layout and names as in the Hub's "Manual configuration" of datasets: data/SPLIT-00000-of-00001.parquet, and in the
README's YAML a config whose `data_files` say which files are which split.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import shutil
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from libra_jax import records

_BATCH = 1000  # rows of a parquet row group
WORDS = {  # what the columns of all records mean
    "id": "the record's own name", "source": "where the question is from", "question": "the question",
    "answer": "the reference answer; null where none is known", "level": "difficulty, as the source says",
    "subject": "subject, as the source says", "problem_id": "the problem's id", "policy": "who wrote the response",
    "sample": "number of the sample, from 0", "text": "the response", "num_tokens": "its tokens, the stop token too",
    "finish": "stop, or length where it was cut off", "correct": "whether the final answer is right; null: undecided",
    "decided_by": "rule, model or human", "why": "the evidence in words", "note": "what a person wrote",
    "response": "the response to be judged", "responses": "the responses, of which exactly one is right",
    "right": "the place of the right one, from 0", "policies": "who wrote them",
    "example_id": "the judging example's id",
    "judge": "who judged", "thought": "the judge's thought", "verdict": "correct, incorrect or unparsed",
    "score": "of 'correct', or the reward", "chosen": "the better response", "rejected": "the worse response",
    "chosen_score": "its score", "rejected_score": "its score",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """One split: its name, records (made while they are written) and what the card says of their origin."""

    name: str
    rows: Iterable[Any]
    origin: str = ""


def write(folder: pathlib.Path, record: type, splits: Sequence[Split], *, title: str, rows_per_file: int = 100_000
          ) -> dict[str, int]:
    """Writes the folder whole, in place of one that is there, or not at all; returns the number of rows of each split.

    ValueError where pyarrow is missing.
    """
    try:
        import pyarrow  # noqa: F401 - before anything is written
    except ImportError:
        raise ValueError('pyarrow is not installed; pip install "libra_jax[data]"') from None
    partial, old = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".old")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    try:
        counts = {split.name: _write_split(partial / "data", schema(record), split, rows_per_file) for split in splits}
        records.write_text(partial / "README.md", card(record, splits, counts, title=title))
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


def schema(record: type) -> Any:
    """The pyarrow schema of a record's fields, in their order."""
    import pyarrow

    plain = {str: pyarrow.string(), int: pyarrow.int64(), bool: pyarrow.bool_(), float: pyarrow.float64()}

    def kind(hint: Any) -> tuple[Any, bool]:
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            inner = next(arg for arg in typing.get_args(hint) if arg is not types.NoneType)
            return kind(inner)[0], True
        if typing.get_origin(hint) is typing.Literal:
            return pyarrow.string(), False
        if typing.get_origin(hint) is tuple:
            return pyarrow.list_(kind(typing.get_args(hint)[0])[0]), False
        return plain[hint], False

    fields = [(name, *kind(hint)) for name, hint in typing.get_type_hints(record).items()]
    return pyarrow.schema([pyarrow.field(name, found, nullable=nullable) for name, found, nullable in fields])


def card(record: type, splits: Sequence[Split], counts: Mapping[str, int], *, title: str) -> str:
    """The README.md: YAML for the Hub, then the same for people. A licence is the owner's to name."""
    lines = ["---", f"pretty_name: {yaml_text(title)}", "tags:", "- libra", "- reward-model", "configs:",
             "- config_name: default", "  data_files:"]
    for split in splits:
        lines += [f"  - split: {split.name}", f"    path: data/{split.name}-*"]
    lines += ["---", "", f"# {plain(title)}", "",
              f"Records of the kind {record.__name__} of libra_jax, a row each.", "",
              "| split | rows | from |", "|---|---|---|"]
    lines += [f"| {split.name} | {counts[split.name]:,} | {plain(split.origin)} |" for split in splits]
    lines += ["", "| column | meaning |", "|---|---|"]
    lines += [f"| {field.name} | {WORDS[field.name]} |" for field in dataclasses.fields(record)]
    lines += ["", "    from datasets import load_dataset",
              f"    rows = load_dataset(\"FOLDER OR OWNER/NAME\", split=\"{splits[0].name}\")", "",
              "Back to JSON lines, which the stages of libra_jax read:", "",
              f"    libra dataset --workdir=DIR --config.record={record.__name__} \\",
              f"        --config.inputs={splits[0].name}=FOLDER/data/{splits[0].name}-*.parquet", "",
              "The licence is that of the sources; name it in the first lines of this file (`license: ...`).", ""]
    return "\n".join(lines)


def yaml_text(text: str) -> str:
    """A text as a YAML scalar, whatever it holds: one line in double quotes."""
    return json.dumps("".join(letter if letter.isprintable() else " " for letter in text), ensure_ascii=False)


def plain(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    line = " ".join(text.split())
    return "".join("\\" + letter if letter in "\\`*_{}[]()#!|~<>&$" else letter for letter in line)


def _write_split(folder: pathlib.Path, layout: Any, split: Split, rows_per_file: int) -> int:
    """Writes the files of a split and returns its rows; how many files there are is known at the end."""
    import pyarrow.parquet as parquet

    count, names, rows = 0, [], _batches(split.rows, min(_BATCH, rows_per_file))
    batch = next(rows, None)
    while batch:
        names.append(f"{split.name}-{len(names):05}")
        with parquet.ParquetWriter(folder / names[-1], layout) as out:
            size = 0
            while batch and size + len(batch) <= max(rows_per_file, len(batch)):
                out.write_table(_table(batch, layout))
                size += len(batch)
                batch = next(rows, None)
        count += size
    for name in names:
        (folder / name).rename(folder / f"{name}-of-{len(names):05}.parquet")
    return count


def _batches(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch


def _table(batch: Sequence[Any], layout: Any) -> Any:
    import pyarrow

    columns = {name: [getattr(row, name) for row in batch] for name in layout.names}
    return pyarrow.table(columns, schema=layout)
