r"""Decides rollouts by rules, then by a model, then by people: Rollout -> VerifiedRollout.

    libra verify --workdir=DIR --config.problems=problems.jsonl --config.rollouts=rollouts.jsonl
    libra verify --workdir=DIR --config.format=gsm8k_gpt3 --config.rollouts=gsm8k_gpt3_solutions.jsonl.gz
    libra verify --workdir=DIR --config.format=math_qwen --config.rollouts=math_qwen2.5_math.jsonl.gz
    libra verify --workdir=DIR --config.problems=problems.jsonl --config.rollouts=rollouts.jsonl \
        --config.criteria=FILE.py --config.checklist.required=ONE,TWO --config.checklist.advisory=THREE \
        --config.model=judgements.jsonl --config.human=labels.jsonl

Writes verified.jsonl, undecided.jsonl (what is left, as questions for `libra judge`, whose judgements --config.model
takes in another workdir) and summary.json, with counts by tier; of a published file also problems.jsonl,
disagreements.jsonl and, where a reward model scored its responses, scores.jsonl; with other criteria than the final
answer also findings.jsonl. A killed run goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import collections
import dataclasses
import gzip
import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.command import dry, entry
from libra_jax.records import (
    HumanLabel,
    Judgement,
    JudgingExample,
    Problem,
    Rollout,
    Score,
    VerifiedRollout,
    example_id,
)
from libra_jax.verify import criteria, equal, extract, tiers
from libra_jax.verify.criteria import Checklist


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is verified, and how.

    Attributes:
      rollouts: JSON lines of Rollout, or a published file of another format (that also gzipped, .gz).
      problems: JSON lines of Problem with answers; published files bring their own.
      format: "records"; "gsm8k_gpt3": example_model_solutions.jsonl of openai/grade-school-math; "math_qwen":
        eval_rm_maj_example of QwenLM/Qwen2.5-Math.
      num_workers: processes; 0 for one a core.
      timeout: seconds a pair, or a criterion on a response, may take before it is undecided.
      criteria: a Python file with CRITERIA, a dictionary of functions (verify/criteria.py); your own trusted code.
      checklist: the criteria that decide, and those that are evidence alone.
      model: files of Judgement on the examples of an undecided.jsonl; they decide what the rules leave undecided.
      model_agreement: share of a response's votes, above 0.5, that must say the same; unparsed votes count as votes.
      human: files of HumanLabel, which win over rules and model.
    """

    rollouts: Annotated[str, configs.File()] = ""
    problems: Annotated[str, configs.File(Problem)] = ""
    format: Literal["records", "gsm8k_gpt3", "math_qwen"] = "records"
    num_workers: int = 0
    timeout: float = 5.0
    criteria: Annotated[str, configs.File()] = ""
    checklist: Checklist = Checklist()
    model: Annotated[tuple[str, ...], configs.File(Judgement)] = ()
    model_agreement: float = 0.75
    human: Annotated[tuple[str, ...], configs.File(HumanLabel)] = ()

    def __post_init__(self):
        if not 0.5 < self.model_agreement <= 1:
            raise ValueError(f"model_agreement={self.model_agreement}: expected a share above 0.5, up to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A response that the rules decide otherwise than its published label; `published_reference` is what that was
    decided by, where the reference used here differs."""

    problem_id: str
    policy: str
    sample: int
    extracted: str | None
    reference: str
    published_reference: str
    published: bool
    correct: bool | None
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiers:
    """What stands over the rules: votes by example id, labels as given, and people's words made of them."""

    votes: dict[str, collections.Counter]
    labels: tuple[HumanLabel, ...]
    words: dict[tuple[str, str, int], tiers.Word]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A published file: its problems, and its responses with their labels; `references` as published, by problem.

    `scores`: a reward model's, one a response, or none at all.
    """

    problems: dict[str, Problem]
    references: dict[str, str]
    rollouts: tuple[Rollout, ...]
    labels: tuple[bool, ...]
    scores: tuple[float, ...] = ()


def check(config: Config) -> None:
    """ValueError for a path that is missing."""
    runs.need(config, "rollouts", *(["problems"] if config.format == "records" else []))


def writes(config: Config) -> tuple[str, ...]:
    """The files that `run` makes."""
    published = () if config.format == "records" else ("problems.jsonl", "disagreements.jsonl")
    findings = () if config.checklist.plain else ("findings.jsonl",)
    return ("verified.jsonl", "undecided.jsonl", "summary.json", *published, *findings)


def look(config: Config) -> list[str]:
    """For --dry_run: the first rollouts, where they are records. ValueError for what is none."""
    if config.format != "records":
        return []
    return [f"rollouts: {dry.file('rollouts', config.rollouts, configs.File(Rollout))}"]


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes the decisions to `workdir`; returns counts, and the agreement with published labels.

    Broken lines are set aside in NAME.rejected.jsonl of `workdir` (problems, rollouts, model.NUMBER, human.NUMBER) and
    counted. A rollout of an unknown problem, or of one without an answer, is undecided by rules and counted. Labels of
    rollouts that are not there are counted and go to human.unknown.jsonl. Raises ValueError for a missing path in the
    config, or when what an earlier, killed run left is of another config or input.
    """
    check(config)
    workdir.mkdir(parents=True, exist_ok=True)
    rejected: list[str] = []
    published = None
    if config.format == "records":
        aside = workdir / "problems.rejected.jsonl"
        problems = {}
        for each in records.read(config.problems, Problem, rejected=rejected, aside=aside):
            if problems.setdefault(each.id, each) != each:
                raise ValueError(f"{config.problems}: problem {each.id!r} is there twice with two contents")
        runs.some(list(problems), config.problems, Problem, rejected)
        found = records.read(config.rollouts, Rollout, rejected=rejected, aside=workdir / "rollouts.rejected.jsonl")
        first = list(itertools.islice(found, 1))
        runs.some(first, config.rollouts, Rollout, rejected)
        given = itertools.chain(first, found)
        total = _lines(config.rollouts)
    else:
        published = READERS[config.format](config.rollouts)
        problems, given, total = published.problems, iter(published.rollouts), len(published.rollouts)
        records.write(workdir / "problems.jsonl", problems.values())
        if published.scores:
            records.write(workdir / "scores.jsonl", (
                Score(example_id=example_id(each), score=score)
                for each, score in zip(published.rollouts, published.scores, strict=True)))
    labels = tuple(_each(config.human, HumanLabel, "human", workdir, rejected))
    above = Tiers(votes=tiers.votes(_each(config.model, Judgement, "model", workdir, rejected)), labels=labels,
                  words=tiers.words(labels))
    _verify(config, workdir, problems, given, total, above)
    summary = _summary(config, workdir, problems, above, rejected)
    if not config.checklist.plain:
        summary["criteria"] = criteria.count(records.read(workdir / "findings.jsonl", criteria.Checked))
    if published:
        summary |= _agreement(published, workdir)
    records.write_json(workdir / "summary.json", summary)
    runs.report(summary)
    for line in rejected[:10]:
        print(f"  set aside: {line}")
    return summary


def _each(paths: Sequence[str], cls: type, name: str, workdir: pathlib.Path, rejected: list[str]) -> Iterator:
    for number, path in enumerate(paths):
        yield from records.read(path, cls, rejected=rejected, aside=workdir / f"{name}.{number}.rejected.jsonl")


def _verify(config: Config, workdir: pathlib.Path, problems: dict[str, Problem],
            given: Iterator[Rollout], total: int, above: Tiers) -> None:
    """Writes verified.jsonl, streaming; `total` is for progress."""
    criteria.load(config.checklist.names, config.criteria)  # says what is wrong before anything is written
    same = dataclasses.replace(config, num_workers=0)  # which changes no result
    inputs = ("rollouts", "problems", "model", "human")
    out = runs.resume(workdir / "verified.jsonl", VerifiedRollout, same, inputs=inputs)
    found = None if config.checklist.plain else records.Appender(workdir / "findings.jsonl", criteria.Checked)
    undecided = sum(record.correct is None for record in out.done)
    skip = min(len(out.done), len(found.done)) if found else len(out.done)
    rest = itertools.islice(given, skip, None)
    if out.finished:
        collections.deque(rest, maxlen=0)  # broken lines are counted again
        return
    progress = _Progress(total - skip)
    decided = criteria.decide(rest, problems, config.checklist, file=config.criteria,
                              num_workers=config.num_workers or os.cpu_count(), timeout=config.timeout)
    for place, (each, correct, why, findings) in enumerate(decided, skip):
        if found and place >= len(found.done):
            found.append(criteria.checked(each, findings))
        if place >= len(out.done):
            record = VerifiedRollout(**dataclasses.asdict(each), correct=correct, decided_by="rule", why=why)
            record = tiers.decide(record, above.votes.get(example_id(each)), above.words.get(tiers.key(each)),
                                  config.model_agreement)
            out.append(record)
            undecided += record.correct is None
        progress.step(undecided)
    if found:
        found.finish()
    out.finish()
    progress.end(undecided)


def _summary(config: Config, workdir: pathlib.Path, problems: dict[str, Problem], above: Tiers,
             rejected: Sequence[str]) -> dict:
    """Writes undecided.jsonl, and human.unknown.jsonl if need be; returns counts of verified.jsonl, also by tier."""
    counts: collections.Counter = collections.Counter()
    unseen, unmet = set(above.votes), set(above.words)

    def left() -> Iterator[JudgingExample]:
        for each in records.read(workdir / "verified.jsonl", VerifiedRollout):
            counts[each.decided_by, each.correct] += 1
            unseen.discard(example_id(each))
            unmet.discard(tiers.key(each))
            if each.correct is None and each.decided_by != "human" and each.problem_id in problems:
                yield tiers.question(each, problems[each.problem_id])

    to_judge = records.write(workdir / "undecided.jsonl", left())
    names = {"correct": True, "incorrect": False, "undecided": None}
    by_tier = {tier: {name: counts[tier, kind] for name, kind in names.items()} for tier in ("rule", "model", "human")}
    summary: dict[str, Any] = {"rollouts": counts.total(), "broken_lines": len(rejected),
               **{name: sum(tier[name] for tier in by_tier.values()) for name in names},
               "by_tier": {tier: by_tier[tier] for tier in by_tier if tier == "rule" or getattr(config, tier)},
               "to_judge": to_judge}
    if config.model:
        summary["model"] = {"responses": len(above.votes), "of_no_such_rollout": len(unseen)}
    if config.human:
        words = above.words.values()
        summary["human"] = {"responses": len(words), "disputed": sum(word.disputed for word in words),
                            "could_not_tell": sum(word.correct is None and not word.disputed for word in words),
                            "of_no_such_rollout": len(unmet)}
    if unmet:
        records.write(workdir / "human.unknown.jsonl", [label for label in above.labels if tiers.key(label) in unmet])
    for name in [*sorted(unseen)[:5], *map("/".join, (map(str, key) for key in sorted(unmet)[:5]))]:
        print(f"  no such rollout: {name}", file=sys.stderr)
    return summary


class _Progress:
    """A line on standard error every five seconds: how many, how fast, how long still."""

    def __init__(self, total: int):
        self._total, self._done = total, 0
        self._start = self._last = time.monotonic()

    def step(self, undecided: int) -> None:
        self._done += 1
        if time.monotonic() - self._last > 5:
            self.end(undecided)

    def end(self, undecided: int) -> None:
        self._last = time.monotonic()
        rate = max(self._done / max(self._last - self._start, 1e-9), 1e-9)
        left = f"{max(0, self._total - self._done) / rate:.0f} s left, " if self._done else ""
        print(f"verify: {self._done:,} of {self._total:,}, {rate:,.0f}/s, {left}{undecided:,} undecided",
              file=sys.stderr, flush=True)


def _agreement(published: Published, workdir: pathlib.Path) -> dict:
    """Writes disagreements.jsonl; returns shares of all responses, undecided ones counting as disagreement.

    `agreement_on_intact_references` leaves out the problems whose published reference is damaged: there the published
    labels say nothing of the rules.
    """
    verified = list(records.read(workdir / "verified.jsonl", VerifiedRollout))
    against = [
        Disagreement(problem_id=each.problem_id, policy=each.policy, sample=each.sample,
                     extracted=extract.extract(each.text), reference=published.problems[each.problem_id].answer or "",
                     published_reference=published.references[each.problem_id], published=label,
                     correct=each.correct, why=each.why)
        for each, label in zip(verified, published.labels, strict=True) if each.correct is not label]
    records.write(workdir / "disagreements.jsonl", against)
    damaged = {name for name, problem in published.problems.items() if published.references[name] != problem.answer}
    intact = sum(each.problem_id not in damaged for each in verified)
    wrong = sum(each.problem_id not in damaged for each in against)
    return {"disagreements": len(against), "agreement": 1 - len(against) / max(1, len(verified)),
            "agreement_on_intact_references": 1 - wrong / max(1, intact), "damaged_references": sorted(damaged)}


def read_gsm8k_gpt3(path: str) -> Published:
    """Problems with a solution and a published label of each of four models; numbered by line, from 0."""
    problems, references, responses, labels = {}, {}, [], []
    models = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    for number, row in enumerate(_rows(path, "question", "ground_truth", *models)):
        reference = extract.extract(row["ground_truth"])
        problem = Problem(id=f"gsm8k-{number:04d}", source="gsm8k", question=row["question"], answer=reference)
        problems[problem.id], references[problem.id] = problem, reference or ""
        for policy in models:
            responses.append(_rollout(problem, policy, 0, row[policy]["solution"]))
            labels.append(row[policy]["is_correct"])
    return Published(problems=problems, references=references, rollouts=tuple(responses), labels=tuple(labels))


def read_math_qwen(path: str) -> Published:
    r"""Problems of MATH, each with 8 responses, labels and scores of a reward model; numbered by the file's own `idx`.

    The reference is the published `gt`, unless the file's own solution (`gt_cot`) ends in another \boxed answer: `gt`
    was made from that by a normalisation that takes letters away ("4:30 p.m." became "4:30p.."), so the box is right.
    """
    problems, references, responses, labels, scores = {}, {}, [], [], []
    for row in _rows(path, "idx", "question", "gt", "gt_cot", "level", "response", "score", "pred_score"):
        solved = extract.extract(row["gt_cot"])
        damaged = solved is not None and equal.equal(row["gt"], solved) is not True
        problem = Problem(id=f"math-{row['idx']:04d}", source="math", question=row["question"],
                          answer=solved if damaged else row["gt"], level=row["level"])
        problems[problem.id], references[problem.id] = problem, row["gt"]
        given = zip(row["response"], row["score"], row["pred_score"], strict=True)
        for sample, (text, label, (score,)) in enumerate(given):
            responses.append(_rollout(problem, "qwen2.5-math", sample, text))
            labels.append(bool(label))
            scores.append(float(score))
    return Published(problems=problems, references=references, rollouts=tuple(responses), labels=tuple(labels),
                     scores=tuple(scores))


READERS = {"gsm8k_gpt3": read_gsm8k_gpt3, "math_qwen": read_math_qwen}


def _rollout(problem: Problem, policy: str, sample: int, text: str) -> Rollout:
    # The published files count no tokens and do not say how a response ended; words stand in for tokens.
    return Rollout(problem_id=problem.id, policy=policy, sample=sample, text=text, num_tokens=len(text.split()),
                   finish="stop")


def _rows(path: str, *fields: str) -> Iterator[dict]:
    """The rows of a published file, which must have these fields. ValueError names the line that has not."""
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not JSON: {error}; is --config.format right?") from None
            missing = [name for name in fields if name not in row] if isinstance(row, dict) else list(fields)
            if missing:
                raise ValueError(f"{path}:{number}: the field {missing[0]!r} is missing; is --config.format right?")
            yield row


def _lines(path: str) -> int:
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def main(argv: Sequence[str] | None = None) -> int:
    """`libra verify`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=writes, look=look)


if __name__ == "__main__":
    raise SystemExit(main())
