"""Decides rollouts by rules: Rollout -> VerifiedRollout, with agreement where labels were published.

    libra verify --workdir=DIR --config.problems=problems.jsonl --config.rollouts=rollouts.jsonl
    libra verify --workdir=DIR --config.format=gsm8k_gpt3 --config.rollouts=gsm8k_gpt3_solutions.jsonl.gz

Writes verified.jsonl and summary.json; for published rollout files also problems.jsonl and disagreements.jsonl.
"""

from __future__ import annotations

import collections
import dataclasses
import gzip
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Literal

from libra_jax import config as configs
from libra_jax import records
from libra_jax.records import Problem, Rollout, VerifiedRollout
from libra_jax.verify import batch, extract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    rollouts: JSON lines of Rollout, or a published file (also .gz) of another format.
    problems: JSON lines of Problem with answers; published files bring their own.
    format: "gsm8k_gpt3" (openai/grade-school-math, example_model_solutions), "math_qwen" (QwenLM/Qwen2.5-Math).
    num_workers: processes; 0 for one a core.
    timeout: seconds a pair may take before it is undecided.
    """

    rollouts: str = ""
    problems: str = ""
    format: Literal["records", "gsm8k_gpt3", "math_qwen"] = "records"
    num_workers: int = 0
    timeout: float = 5.0


Labelled = tuple[Rollout, bool | None]


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes the decisions; a killed run goes on where it stopped. Returns counts, and agreement with labels.

    ValueError for a missing path, a rollout of an unknown problem, or a problem without an answer.
    """
    if not config.rollouts or (config.format == "records" and not config.problems):
        raise ValueError("--config.rollouts (and, for format=records, --config.problems) is empty; expected a file")
    rejected: list[str] = []
    if config.format == "records":
        aside = workdir / "rollouts.rejected.jsonl"
        problems = {each.id: each for each in records.read(config.problems, Problem)}
        labelled: list[Labelled] = [(rollout, None) for rollout in
                                    records.read(config.rollouts, Rollout, rejected=rejected, aside=aside)]
    else:
        problems, labelled = READERS[config.format](config.rollouts)
        records.write(workdir / "problems.jsonl", problems.values())
    for rollout, _ in labelled:
        problem = problems.get(rollout.problem_id)
        if problem is None or problem.answer is None:
            what = "is not among the problems" if problem is None else "has no answer to verify against"
            raise ValueError(f"problem {rollout.problem_id!r} of a rollout {what}; give the file it was drawn from")
    decided = _decide(config, workdir, problems, labelled)
    counts = collections.Counter({True: "correct", False: "incorrect", None: "undecided"}[each.correct]
                                 for each in decided)
    summary = {"rollouts": len(decided), "broken_lines": len(rejected),
               **{name: counts[name] for name in ("correct", "incorrect", "undecided")}}
    labels = [label for _, label in labelled]
    if labels and labels[0] is not None:
        against = [{"published": label, "reference": problems[each.problem_id].answer,
                    "extracted": extract.extract(each.text), **dataclasses.asdict(each)}
                   for each, label in zip(decided, labels, strict=True) if each.correct is not label]
        (workdir / "disagreements.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in against), encoding="utf-8")
        summary |= {"agreement": 1 - len(against) / len(labels), "disagreements": len(against)}
    (workdir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(" ".join(f"{name}={value}" for name, value in summary.items()))
    return summary


def _decide(config: Config, workdir: pathlib.Path, problems: dict[str, Problem],
            labelled: list[Labelled]) -> list[VerifiedRollout]:
    out = records.Appender(workdir / "verified.jsonl", VerifiedRollout)
    decided = list(out.done)
    if out.finished:
        return decided
    rest = [rollout for rollout, _ in labelled[len(decided):]]
    start = last = time.monotonic()
    pairs = ((rollout.text, problems[rollout.problem_id].answer) for rollout in rest)
    decisions = batch.decide(pairs, num_workers=config.num_workers or os.cpu_count(), timeout=config.timeout)
    for number, (rollout, decision) in enumerate(zip(rest, decisions, strict=True), 1):
        record = VerifiedRollout(**dataclasses.asdict(rollout), correct=decision.correct, decided_by="rule",
                                 why=decision.why)
        out.append(record)
        decided.append(record)
        if time.monotonic() - last > 5 or number == len(rest):
            last = time.monotonic()
            rate = number / (last - start)
            print(f"verify: {number}/{len(rest)}, {rate:,.0f}/s, {(len(rest) - number) / rate:.0f} s left",
                  file=sys.stderr, flush=True)
    out.finish()
    return decided


def _rows(path: str) -> Iterator[dict]:
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: not JSON: {error}") from None


def read_gsm8k_gpt3(path: str) -> tuple[dict[str, Problem], list[Labelled]]:
    """660 problems, each with a solution and a published label of four models."""
    problems, labelled = {}, []
    for number, row in enumerate(_rows(path)):
        problem = Problem(id=f"gsm8k-{number:04d}", source="gsm8k", question=row["question"],
                          answer=extract.extract(row["ground_truth"]))
        problems[problem.id] = problem
        for policy in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            text = row[policy]["solution"]
            labelled.append((_rollout(problem, policy, 0, text), row[policy]["is_correct"]))
    return problems, labelled


def read_math_qwen(path: str) -> tuple[dict[str, Problem], list[Labelled]]:
    """50 problems of MATH, each with 8 responses of Qwen2.5-Math and published labels."""
    problems, labelled = {}, []
    for row in _rows(path):
        problem = Problem(id=f"math-{row['idx']}", source="math", question=row["question"], answer=row["gt"],
                          level=str(row.get("level")))
        problems[problem.id] = problem
        for sample, (text, score) in enumerate(zip(row["response"], row["score"], strict=True)):
            labelled.append((_rollout(problem, "qwen2.5-math", sample, text), bool(score)))
    return problems, labelled


def _rollout(problem: Problem, policy: str, sample: int, text: str) -> Rollout:
    # The published files do not count tokens; words stand in for them.
    return Rollout(problem_id=problem.id, policy=policy, sample=sample, text=text, num_tokens=len(text.split()),
                   finish="stop")


READERS = {"gsm8k_gpt3": read_gsm8k_gpt3, "math_qwen": read_math_qwen}


def main(argv: Sequence[str] | None = None) -> int:
    """`libra verify`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
