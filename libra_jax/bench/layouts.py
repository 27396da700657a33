"""Layouts of published judging suites: a row of each becomes judging examples, and nothing is guessed.

A suite made for something else loses a part of itself here, which its function says. Where members of a pair matter,
an example's id up to its last "/" names the row that it comes from. All members of a row share their problem.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from libra_jax.records import JudgingExample, RecordError

STYLES = ("concise", "plain", "markdown")  # of RM-Bench's responses, in its order


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What a published table looks like.

    Attributes:
      about: whose it is, in words.
      columns: those that a row must have; others are not read.
      convert: one row (column -> value) to its examples; RecordError when a value does not fit.
      file_column: "", or the column whose value is a file's name where the files of a folder lack that column.
    """

    about: str
    columns: tuple[str, ...]
    convert: Callable[[Mapping[str, Any]], list[JudgingExample]]
    file_column: str = ""


def from_libra_bench(row: Mapping[str, Any]) -> list[JudgingExample]:
    """A row of meituan/Libra-Bench (fields of its dataset card): one example; no reference, no thinking of the policy.

    The source is the row's `subset`, the policy its `model`, the problem its question. RecordError for a label that is
    not 0 or 1, or a field that is not text.
    """
    if row["label"] not in (0, 1):
        raise RecordError(f"label={row['label']!r}: expected 0 (incorrect) or 1 (correct)")
    subset, question = _text(row, "subset"), _text(row, "question")
    return [JudgingExample(
        id=f"libra_bench/{_name(row, 'index')}",
        problem_id=_problem(subset, question),
        question=question,
        response=_text(row, "response"),
        correct=bool(row["label"]),
        policy=_text(row, "model"),
        source=subset,
    )]


def from_reward_bench_2(row: Mapping[str, Any]) -> list[JudgingExample]:
    """A row of allenai/reward-bench-2 (features of its dataset card; arXiv 2506.01937): an example a response.

    A chosen response is "correct", a rejected one "incorrect", in subset Ties too, where several are chosen. Lost: the
    best-of-four score (chosen above all three rejected) and the margins that Ties weighs. The policy is the row's
    model where `models` names one; of several it does not say who wrote what, and the policy is "unknown".
    """
    policy = _texts(row, "models")[0] if row["models"] and len(set(_texts(row, "models"))) == 1 else "unknown"
    name = f"reward_bench_2/{_text(row, 'subset')}/{_name(row, 'id')}"
    return _preferences(row, name, source=_text(row, "subset"), policies=[policy])


def from_rm_bench(row: Mapping[str, Any]) -> list[JudgingExample]:
    """A row of THU-KEG/RM-Bench, total_dataset.json (its dataset card; arXiv 2410.16184): six examples.

    Three chosen responses are "correct", three rejected ones "incorrect". The file names no model; the policy is the
    style of the response (STYLES), which is what the suite varies. Lost: its 3 x 3 matrix of pairs, which needs scores.
    RecordError for another number of responses.
    """
    for column in ("chosen", "rejected"):
        if len(_texts(row, column)) != len(STYLES):
            raise RecordError(f"{column} has {len(row[column])} responses: expected one in each of {', '.join(STYLES)}")
    name = f"rm_bench/{_text(row, 'domain')}/{_name(row, 'id')}"
    return _preferences(row, name, source=_text(row, "domain"), policies=STYLES)


def from_judge_bench(row: Mapping[str, Any]) -> list[JudgingExample]:
    """A row of ScalerLab/JudgeBench (its README; arXiv 2410.12784): the two responses of a pair, one of them correct.

    Both responses are by one model and the label says which is objectively right, so no preference is taken for
    correctness. Lost: the two orders in which a pairwise judge is asked. RecordError for another label than A>B or B>A.
    """
    if row["label"] not in ("A>B", "B>A"):
        raise RecordError(f"label={row['label']!r}: expected 'A>B' or 'B>A'")
    source, question = _text(row, "source"), _text(row, "question")
    return [JudgingExample(
        id=f"judge_bench/{_name(row, 'pair_id')}/{side}",
        problem_id=_problem(source, question),
        question=question,
        response=_text(row, f"response_{side}"),
        correct=row["label"].startswith(side),
        policy=_text(row, "response_model"),
        source=source,
    ) for side in "AB"]


def from_process_bench(row: Mapping[str, Any]) -> list[JudgingExample]:
    """A row of Qwen/ProcessBench (its README; arXiv 2412.06559): one example, correct when every step is (label -1).

    A solution with the right final answer after a wrong step is "incorrect". Lost: which step is the first wrong one.
    The source is what comes before the number in the row's id ("gsm8k-0"). RecordError for a label that is no step.
    """
    steps, label = _texts(row, "steps"), row["label"]
    if not isinstance(label, int) or isinstance(label, bool) or not -1 <= label < len(steps):
        raise RecordError(f"label={label!r}: expected -1 (all steps right) or one of the {len(steps)} steps from 0")
    name = _name(row, "id")
    source, problem = name.rpartition("-")[0] or name, _text(row, "problem")
    return [JudgingExample(
        id=f"process_bench/{name}",
        problem_id=_problem(source, problem),
        question=problem,
        response="\n\n".join(steps),
        correct=label == -1,
        policy=_text(row, "generator"),
        source=source,
    )]


LAYOUTS = {
    "libra_bench": Layout(about="meituan/Libra-Bench", convert=from_libra_bench, file_column="subset",
                          columns=("index", "question", "response", "label", "model", "subset")),
    "reward_bench_2": Layout(about="allenai/reward-bench-2", convert=from_reward_bench_2,
                             columns=("id", "prompt", "chosen", "rejected", "models", "subset")),
    "rm_bench": Layout(about="THU-KEG/RM-Bench (total_dataset.json)", convert=from_rm_bench,
                       columns=("id", "prompt", "chosen", "rejected", "domain")),
    "judge_bench": Layout(about="ScalerLab/JudgeBench", convert=from_judge_bench,
                          columns=("pair_id", "source", "question", "response_model", "response_A", "response_B",
                                   "label")),
    "process_bench": Layout(about="Qwen/ProcessBench", convert=from_process_bench,
                            columns=("id", "generator", "problem", "steps", "label")),
}


def _preferences(row: Mapping[str, Any], name: str, *, source: str, policies: Sequence[str]) -> list[JudgingExample]:
    """An example for each chosen and rejected response; the n-th is by the n-th of `policies`, in turn."""
    prompt = _text(row, "prompt")
    return [JudgingExample(
        id=f"{name}/{column}.{number}",
        problem_id=_problem(source, prompt),
        question=prompt,
        response=text,
        correct=column == "chosen",
        policy=policies[number % len(policies)],
        source=source,
    ) for column in ("chosen", "rejected") for number, text in enumerate(_texts(row, column))]


def _problem(source: str, question: str) -> str:
    """The problem is the question itself: equal ones are one problem, whatever rows they are in."""
    return f"{source}/{hashlib.sha256(question.encode()).hexdigest()[:16]}"


def _name(row: Mapping[str, Any], column: str) -> str:
    """An id, which is text or a whole number."""
    value = row[column]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(row, column)


def _texts(row: Mapping[str, Any], column: str) -> list[str]:
    if not isinstance(row[column], list) or not row[column]:
        raise RecordError(f"{column}: expected a list of texts, found {str(row[column])[:60]!r}")
    return [_checked(value, column) for value in row[column]]


def _text(row: Mapping[str, Any], column: str) -> str:
    return _checked(row[column], column)


def _checked(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise RecordError(f"{column}: expected text, found {str(value)[:60]!r}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RecordError(f"{column} has half a surrogate pair, which is no Unicode text") from None
    return value
