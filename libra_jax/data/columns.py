"""A row of anybody's table becomes a record: which column is which field, and what a field is where no column is."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from libra_jax import records
from libra_jax.records import RecordError
from libra_jax.verify import extract

RECORDS = {cls.__name__: cls for cls in (
    records.Problem, records.Rollout, records.VerifiedRollout, records.HumanLabel, records.JudgingExample,
    records.RankingExample, records.Judgement, records.Score, records.PreferencePair)}
_NAMED = ("id",)  # fields that no two records of a file share
_NUMBERED = {"problem_id": ("problem_id", "policy"), "example_id": ("example_id", "judge")}  # whose samples are counted
_MOST_COLUMNS = 30  # named in a message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """How rows become records of one kind.

    Attributes:
      record: the kind, a class of RECORDS.
      columns: field -> column. A dot goes into what is nested, a number into a list: "prompt.0.content". A field that
        is not named here is the column of its own name.
      values: field -> text, the same in every row; "" for none (null).
      final: fields of which the final answer alone is taken, by the rules of verify/extract.py.

    ValueError for a field that the record has not, or that is said twice.
    """

    record: type
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    final: Sequence[str] = ()

    def __post_init__(self):
        fields = [field.name for field in dataclasses.fields(self.record)]
        for name in (*self.columns, *self.values, *self.final):
            if name not in fields:
                near = difflib.get_close_matches(name, fields, 1, 0)
                raise ValueError(f"{self.record.__name__} has no field {name!r}; the nearest is {near[0]!r} of "
                                 f"{', '.join(fields)}")
        if twice := self.columns.keys() & self.values.keys():
            raise ValueError(f"{min(twice)!r} is given a column and a value; expected one of them")


class Maker:
    """Makes the records of one file of records, row by row; it knows which ids and samples were there before.

    What a row may lack: `id` is "SOURCE/SPLIT/NUMBER OF THE ROW", `problem_id` a hash of the question, so that equal
    questions are one problem; `source` is that of the dataset; `policy` is "unknown"; `sample` counts the responses of
    one policy to one problem.
    """

    def __init__(self, how: Columns, *, source: str, split: str):
        self._how, self._source, self._split = how, source, split
        self._hints = typing.get_type_hints(how.record)
        self._ids: set[str] = set()
        self._samples: collections.Counter = collections.Counter()

    def make(self, row: Mapping[str, Any], number: int) -> Any:
        """The record of a row; RecordError, naming field and column, for one that does not fit or is there twice."""
        raw = {}
        for name, hint in self._hints.items():
            if name in self._how.values:
                raw[name] = _read(name, self._how.values[name], hint)
            elif name in self._how.columns or name in row:
                column = self._how.columns.get(name, name)
                raw[name] = _fitted(name, _lookup(row, column), hint)
                if name in self._how.final:
                    raw[name] = _final(name, raw[name])
        self._complete(raw, number)
        missing = [field.name for field in dataclasses.fields(self._how.record)
                   if field.default is dataclasses.MISSING and field.name not in raw]
        if missing:
            raise RecordError(f"{self._how.record.__name__} needs {', '.join(missing)}; the row has {_names(row)}; "
                              f"name the column, such as --config.columns={missing[0]}=COLUMN, or give a value, such "
                              f"as --config.values={missing[0]}=TEXT")
        made = records.from_json(json.dumps(raw, default=_unfit), self._how.record)
        for name in _NAMED:
            if name in raw:
                if raw[name] in self._ids:
                    raise RecordError(f"{name}={raw[name]!r} is there twice; expected another one in each row")
                self._ids.add(raw[name])
        return made

    def _complete(self, raw: dict[str, Any], number: int) -> None:
        if "source" in self._hints:
            raw.setdefault("source", self._source)
        if "policy" in self._hints:
            raw.setdefault("policy", "unknown")
        if "id" in self._hints:
            raw.setdefault("id", f"{raw.get('source', self._source)}/{self._split}/{number}")
        if "problem_id" in self._hints and isinstance(raw.get("question"), str):
            digest = hashlib.sha256(raw["question"].encode("utf-8", "replace")).hexdigest()[:16]
            raw.setdefault("problem_id", f"{raw.get('source', self._source)}/{digest}")
        if "sample" in self._hints and "sample" not in raw:
            whose = next(pair for name, pair in _NUMBERED.items() if name in self._hints)
            key = tuple(str(raw.get(name)) for name in whose)
            raw["sample"] = self._samples[key]
            self._samples[key] += 1


def _lookup(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of what is nested in one; RecordError, naming the columns, where there is none."""
    if column in row:
        return row[column]
    here: Any = row
    for part in column.split("."):
        if isinstance(here, Mapping) and part in here:
            here = here[part]
        elif isinstance(here, list) and part.isdecimal() and len(part) < 10 and int(part) < len(here):
            here = here[int(part)]
        else:
            raise RecordError(f"no column {column!r}; the row has {_names(row)}")
    return here


def _names(row: Mapping[str, Any]) -> str:
    names = [str(name)[:60] for name in row]
    more = f" and {len(names) - _MOST_COLUMNS} more" if len(names) > _MOST_COLUMNS else ""
    return (", ".join(names[:_MOST_COLUMNS]) or "no columns") + more


def _kinds(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _fitted(name: str, value: Any, hint: Any) -> Any:
    """`value` as JSON holds a field of this type, where nothing is guessed: a number may be text, 0 and 1 a bool.

    What has no such form is left, for the reader of records to refuse. NaN, a table's own null, is None.
    """
    kinds = _kinds(hint)
    if isinstance(value, float) and math.isnan(value):
        value = None
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        if math.isinf(value):
            raise RecordError(f"{name}: infinity is no number that a record holds")
        if str in kinds:
            return str(value)
        if bool in kinds and value in (0, 1):
            return bool(value)
        if int in kinds and isinstance(value, float) and float(value).is_integer():
            return int(value)
    return value


def _read(name: str, text: str, hint: Any) -> Any:
    """A value given as text: of a number or a bool the JSON; "" is None."""
    if text == "":
        return None
    if set(_kinds(hint)) & {int, float, bool}:
        try:
            return json.loads(text)
        except ValueError:
            raise RecordError(f"{name}={text!r}: expected {hint}, such as 1 or true") from None
    return text


def _final(name: str, value: Any) -> str | None:
    if not isinstance(value, str):
        return value
    answer = extract.extract(value)
    if answer is None:
        raise RecordError(f"{name}: no final answer in {value[-60:]!r}; expected \\boxed{{...}}, '#### ...' or 'the "
                          "answer is ...'")
    return answer


def _unfit(value: Any) -> Any:
    raise RecordError(f"a value of type {type(value).__name__} has no place in a record: {str(value)[:60]!r}")
