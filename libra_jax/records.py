"""The nouns that flow between stages: frozen records, one JSON object a line, never changed after they are written."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import pathlib
import types
import typing
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Verdict = Literal["correct", "incorrect", "unparsed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A question; `answer` is None where no reference is known."""

    id: str
    source: str
    question: str
    answer: str | None = None
    level: str | None = None
    subject: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rollout:
    """One response of one policy to one problem. `num_tokens` counts response tokens, the stop token included."""

    problem_id: str
    policy: str
    sample: int
    text: str
    num_tokens: int
    finish: Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifiedRollout:
    """A rollout that was decided. `correct` None means undecided; `why` is the evidence in words."""

    problem_id: str
    policy: str
    sample: int
    text: str
    num_tokens: int
    finish: Literal["stop", "length"]
    correct: bool | None
    decided_by: Literal["rule", "model", "human"]
    why: str


def example_id(rollout: Rollout | VerifiedRollout) -> str:
    """The id of the judging example that a rollout becomes."""
    return f"{rollout.problem_id}/{rollout.policy}/{rollout.sample}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HumanLabel:
    """What a person said of one rollout, named by its key. `correct` None: the person could not tell."""

    problem_id: str
    policy: str
    sample: int
    correct: bool | None
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgingExample:
    """A judging question; the judge sees `question` and `response` alone.

    `correct` is its known answer: V2V makes only such examples. None: nobody knows (responses to problems without
    answers, downstream); training and measuring refuse those.
    """

    id: str
    problem_id: str
    question: str
    response: str
    correct: bool | None
    policy: str
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankingExample:
    """A ranking question: which of `responses` is right? `right` is the place of that one, from 0; the others are not.

    `policies` wrote them, in their order. RecordError for fewer than two responses, another number of policies, or a
    place that is not there.
    """

    id: str
    problem_id: str
    question: str
    responses: tuple[str, ...]
    right: int
    policies: tuple[str, ...]
    source: str

    def __post_init__(self):
        if len(self.responses) < 2 or len(self.policies) != len(self.responses):
            raise RecordError(f"RankingExample {self.id[:60]!r} has {len(self.responses)} responses and "
                              f"{len(self.policies)} policies; expected at least 2 responses, and a policy of each")
        if not 0 <= self.right < len(self.responses):
            raise RecordError(f"RankingExample {self.id[:60]!r}: right={self.right} is not the place of one of its "
                              f"{len(self.responses)} responses; expected 0 to {len(self.responses) - 1}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """One sample of a judge on one example. `score` is P(correct) where the judge gives one, else None."""

    example_id: str
    judge: str
    sample: int
    thought: str
    verdict: Verdict
    num_tokens: int
    score: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """A scalar reward of one example, by a judge that gives nothing else; higher is better, on any scale."""

    example_id: str
    score: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferencePair:
    """Two responses to one question, ordered by a judge's scores (0 to 1)."""

    problem_id: str
    question: str
    chosen: str
    rejected: str
    chosen_score: float
    rejected_score: float


KINDS = (Problem, Rollout, VerifiedRollout, HumanLabel, JudgingExample, RankingExample, Judgement, Score,
         PreferencePair)


@dataclasses.dataclass(frozen=True)
class Control:
    """A control token of a prompt by its text, such as `<think>`. Plain strings never become control tokens."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation; `content` is made of plain text and, from trusted templates only, control tokens."""

    role: Literal["system", "user", "assistant"]
    content: tuple[str | Control, ...]


Record = TypeVar("Record", bound="DataclassInstance")


class RecordError(ValueError):
    """A line that is not the expected record; the message names what was found, expected, and the nearest field."""


def to_json(record: Any) -> str:
    """One line of JSON without the newline; fields in their declared order, so equal records are equal bytes."""
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False, allow_nan=False)


def from_json(line: str, cls: type[Record]) -> Record:
    """Parses one line into `cls`; raises RecordError on bad JSON, unknown or missing fields, or a wrong type."""
    try:
        # Python's own parser admits NaN, which JSON does not; deep nesting raises RecursionError, and an integer of
        # thousands of digits a plain ValueError.
        raw = json.loads(line, parse_constant=lambda name: _fail(f"{name} is not JSON; use null"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a JSON object: {error}") from None
    if not isinstance(raw, dict):
        is_list = "; write each of its items on a line of its own (jq -c '.[]')" if isinstance(raw, list) else ""
        raise RecordError(f"expected a JSON object, found {type(raw).__name__}{is_list}")
    hints = typing.get_type_hints(cls)
    for name in raw:
        if name not in hints:
            near = difflib.get_close_matches(name[:60], hints, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise RecordError(f"{cls.__name__} has no field {name[:60]!r}{meant}")
    for field in dataclasses.fields(cls):
        if field.name not in raw:
            if field.default is dataclasses.MISSING:
                raise RecordError(f"{cls.__name__} needs the field {field.name!r}")
        elif not _is(raw[field.name], hints[field.name]):
            raise RecordError(
                f"{cls.__name__}.{field.name}: expected {field.type}, found {str(raw[field.name])[:60]!r}"
            )
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()})


def read(path: str | os.PathLike, cls: type[Record], *, rejected: list[str] | None = None,
         aside: str | os.PathLike | None = None) -> Iterator[Record]:
    """Streams records from a JSON-lines file.

    A broken line is written to `aside` (by default `<path>.rejected.jsonl`) as {file, line, error, text}, and appended
    to `rejected` as "file:line: error" when given; without `rejected` the first broken line raises RecordError. Blank
    lines are skipped. ValueError for a file that is no JSON lines by its name, or a JSON array.
    """
    _lines_only(path, cls)
    path = pathlib.Path(path)
    aside = pathlib.Path(aside) if aside else path.with_name(path.name + ".rejected.jsonl")
    sink = None
    try:
        with path.open("rb") as lines:
            for number, data in enumerate(lines, 1):
                if not data.strip():
                    continue
                try:
                    yield from_json(data.decode("utf-8"), cls)
                except (RecordError, UnicodeDecodeError) as error:
                    where = f"{path}:{number}: {error}"
                    if rejected is None:
                        raise RecordError(where) from None
                    rejected.append(where)
                    sink = sink or aside.open("w", encoding="utf-8")
                    text = data.decode("utf-8", "replace").rstrip("\n")
                    note = {"file": str(path), "line": number, "error": str(error), "text": text[:10_000]}
                    sink.write(json.dumps(note, ensure_ascii=False) + "\n")
    finally:
        if sink:
            sink.close()


def kinds(path: str | os.PathLike) -> list[str]:
    """The names of the records that the first line of a file is, where it is any."""
    with open(path, "rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    found = []
    for cls in KINDS:
        try:
            from_json(first.decode("utf-8"), cls)
        except (RecordError, UnicodeDecodeError):
            continue
        found.append(cls.__name__)
    return found


def write(path: str | os.PathLike, records: Iterable[Any]) -> int:
    """Writes all records or nothing: a temporary neighbour is renamed when complete. Returns how many."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as out:
        for record in records:
            out.write(to_json(record) + "\n")
            count += 1
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)
    return count


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a whole text file or nothing; what UTF-8 cannot hold (lone surrogates) becomes "?"."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as out:
        out.write(text.encode("utf-8", "replace"))
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """`write_text` of a JSON value, indented. ValueError for numbers that JSON has not (NaN, infinity)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


class Appender:
    """Appends records to `<path>.partial` and renames on `finish`, so that a killed stage can go on where it stopped.

    `done` holds the whole records that an earlier, killed run left (a torn last line is cut off). If `path` itself
    exists the work was finished: `finished` is True and `done` is its content.
    """

    def __init__(self, path: str | os.PathLike, cls: type):
        self.path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.finished = self.path.exists()
        self.done: list[Any] = []
        if self.finished:
            self.done = list(read(self.path, cls))
        elif self.partial.exists():
            data = self.partial.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                self.partial.write_bytes(whole)
            self.done = list(read(self.partial, cls))
        self._out = None if self.finished else self.partial.open("a", encoding="utf-8")

    def append(self, record: Any) -> None:
        """Writes one record and flushes it to the operating system."""
        if self._out is None:
            raise ValueError(f"{self.path} is finished; delete it to make it anew")
        self._out.write(to_json(record) + "\n")
        self._out.flush()

    def finish(self) -> None:
        """Makes the file final under its own name."""
        if self._out is not None:
            os.fsync(self._out.fileno())
            self._out.close()
            self._out = None
            self.partial.replace(self.path)
            self.finished = True


def _lines_only(path: str | os.PathLike, cls: type) -> None:
    """ValueError, with the command that helps, for tables of another kind than JSON lines."""
    name = str(path)
    kind = "on the Hub" if name.startswith("hf:") else "parquet" if name.endswith(".parquet") else ""
    kind = kind or ("compressed" if name.endswith(".gz") else "")
    if not kind and name.endswith(".json") and pathlib.Path(path).is_file():
        with open(path, "rb") as file:
            kind = "a JSON array" if file.read(256).lstrip()[:1] == b"[" else ""
    if kind:
        raise ValueError(f"{name} is {kind}; expected JSON lines of {cls.__name__}, which `libra dataset --workdir=DIR "
                         f"--config.record={cls.__name__} --config.inputs={name}` makes of it")


def _fail(message: str):
    raise RecordError(message)


def _is(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_is(value, part) for part in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin is tuple:  # of one type, any number
        return isinstance(value, list) and all(_is(item, typing.get_args(hint)[0]) for item in value)
    if hint is type(None):
        return value is None
    if hint is float:
        # Python reads 1e999 as infinity, which could not be written again.
        return (isinstance(value, float) and math.isfinite(value)) or _is(value, int)
    if hint is int:  # as far as arrays hold it: one of hundreds of digits would stop whoever computes with it
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if hint is str:
        return isinstance(value, str) and _is_unicode(value)
    return isinstance(value, hint)


def _is_unicode(text: str) -> bool:
    """False for lone surrogates, which JSON's escapes allow and UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
