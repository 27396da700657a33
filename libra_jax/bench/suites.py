"""Suites: where judging examples with known labels come from, as judging examples of this package."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from libra_jax import records
from libra_jax.records import JudgingExample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """`read(path, rejected=list, aside=path)` streams examples; broken lines are set aside as records.read does."""

    about: str
    read: Callable[..., Iterator[JudgingExample]]


def load(name: str, path: str | os.PathLike, *, rejected: list[str] | None = None,
         aside: str | os.PathLike | None = None) -> tuple[JudgingExample, ...]:
    """All examples of the suite `name` in the file `path`.

    Broken lines go to `aside` and `rejected` when the latter is given. Raises ValueError for an unknown suite, an
    example without label, or an empty file; FileNotFoundError for no such file; RecordError for a broken line.
    """
    if name not in SUITES:
        raise ValueError(f"suite {name!r}: expected one of {', '.join(SUITES)}")
    examples = tuple(SUITES[name].read(pathlib.Path(path), rejected=rejected, aside=aside))
    if not examples:
        raise ValueError(f"{path}: no examples; expected JSON lines of {SUITES[name].about}")
    unlabelled = sum(example.correct is None for example in examples)
    if unlabelled:
        raise ValueError(f"{path}: {unlabelled} of {len(examples)} examples have no label, so nobody can be measured "
                         "on them")
    return examples


def from_libra_bench(row: Mapping[str, Any]) -> JudgingExample:
    """One row of meituan/Libra-Bench (its dataset card) as an example; the judge's question has no reference in it.

    The source is the row's `subset`, the policy its `model`, the problem its question's hash. RecordError for a missing
    field or a label that is not 0 or 1.
    """
    missing = [name for name in ("index", "question", "response", "label", "model", "subset") if name not in row]
    if missing:
        raise records.RecordError(f"a row of Libra Bench needs the field {missing[0]!r}; it has {', '.join(row)}")
    if row["label"] not in (0, 1):
        raise records.RecordError(f"label={row['label']!r}: expected 0 (incorrect) or 1 (correct)")
    subset, question = str(row["subset"]), str(row["question"])
    return JudgingExample(
        id=f"libra_bench/{row['index']}",
        problem_id=f"{subset}/{hashlib.sha256(question.encode()).hexdigest()[:16]}",
        question=question,
        response=str(row["response"]),
        correct=bool(row["label"]),
        policy=str(row["model"]),
        source=subset,
    )


def _read_records(path: pathlib.Path, *, rejected: list[str] | None, aside: os.PathLike | None):
    return records.read(path, JudgingExample, rejected=rejected, aside=aside)


def _read_libra_bench(path: pathlib.Path, *, rejected: list[str] | None, aside: os.PathLike | None):
    """Rows that do not fit are set aside like broken lines of records."""
    aside = pathlib.Path(aside) if aside else path.with_name(path.name + ".rejected.jsonl")
    notes = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise records.RecordError(f"expected a JSON object, found {type(row).__name__}")
                yield from_libra_bench(row)
            except (ValueError, RecursionError) as error:
                where = f"{path}:{number}: {error}"
                if rejected is None:
                    raise records.RecordError(where) from None
                rejected.append(where)
                notes.append({"file": str(path), "line": number, "error": str(error), "text": line[:10_000]})
    if notes:
        aside.write_text("".join(json.dumps(note, ensure_ascii=False) + "\n" for note in notes), encoding="utf-8")


SUITES = {
    "records": Suite(about="JudgingExample, as `libra curate` writes them", read=_read_records),
    "libra_bench": Suite(about="meituan/Libra-Bench: index, question, response, label, model, subset",
                         read=_read_libra_bench),
}
