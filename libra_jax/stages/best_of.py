r"""Best of n: how often the response that a judge picks is right, beside chance, a vote and the verifier.

    libra best_of --workdir=DIR --config.problems=problems.jsonl --config.rollouts=verified.jsonl
    libra judge --workdir=DIR/judge --config.examples=DIR/examples.jsonl --config.checkpoint=FOLDER
    libra best_of --workdir=DIR --config.problems=problems.jsonl --config.rollouts=verified.jsonl \
        --config.judgements=DIR/judge/judgements.jsonl

Always writes examples.jsonl, the responses as judges take them, and prints the table; the judges' lines come with their
judgements. Writes best_of.json and best_of.svg.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.bench import best_of, plots, significance, tables
from libra_jax.bench.significance import Bootstrap
from libra_jax.command import entry
from libra_jax.judges import baselines
from libra_jax.judging import reward
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout, example_id
from libra_jax.stages import compare
from libra_jax.verify import extract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is picked from, and by whom.

    Attributes:
      problems: JSON lines of Problem.
      rollouts: JSON lines of VerifiedRollout, as `libra verify` writes them, several for each problem. Those of all
        policies are one pool. Undecided ones are not right, and counted.
      judgements: files as `libra judge` writes them, of the examples that this stage writes; one line a judge.
      sizes: the numbers n; default: 1, 2, 4 and so on, up to the fewest responses of a problem.
      bootstrap: how intervals are made.
    """

    problems: Annotated[str, configs.File(Problem)] = ""
    rollouts: Annotated[str, configs.File(VerifiedRollout)] = ""
    judgements: Annotated[tuple[str, ...], configs.File(Judgement)] = ()
    sizes: tuple[int, ...] = ()
    bootstrap: Bootstrap = Bootstrap()


def check(config: Config) -> None:
    """ValueError for a path that is missing."""
    runs.need(config, "problems", "rollouts")


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes the table to `workdir` and prints it; returns what best_of.json holds.

    A response that was cut off is not judged and has no vote; it, and one whose votes are all unparsed, is picked last
    and counted as unscored. Broken lines are set aside. ValueError for rollouts of an unknown problem, the same one
    twice, judgements of none of these responses, or sizes that cannot be.
    """
    check(config)
    problems, broken = runs.read(config.problems, Problem, workdir)
    rollouts, more = runs.read(config.rollouts, VerifiedRollout, workdir)
    rejected: list[str] = []
    known = {problem.id: problem for problem in problems}
    by_problem = grouped(known, rollouts)
    records.write(workdir / "examples.jsonl", [
        example(known[name], each) for name, some in by_problem.items() for each in some if each.finish == "stop"])
    by_judge = compare.read(config.judgements, workdir, rejected) if config.judgements else {}
    scores = {judge: scored(judge, some, rollouts) for judge, some in by_judge.items()}
    responses = pool(known, by_problem, scores)
    sizes = config.sizes or doubling(min(len(some) for some in by_problem.values()))
    lines = best_of.lines(responses, sizes, config.bootstrap)
    counts = {"problems": len(responses), "problems_without_responses": len(problems) - len(responses),
              "responses": len(rollouts), "undecided": sum(each.correct is None for each in rollouts),
              "cut_off": sum(each.finish == "length" for each in rollouts),
              "unscored": {judge: len(rollouts) - len(given) for judge, given in scores.items()},
              "broken_lines": broken + more + len(rejected)}
    result = {"sizes": list(sizes), "level": config.bootstrap.level, "counts": counts,
              "pickers": [dataclasses.asdict(line) for line in lines]}
    records.write_json(workdir / "best_of.json", result)
    (workdir / "best_of.svg").write_bytes(plots.svg(plots.best_of(sizes, lines)))
    print(tables.to_text(table(sizes, lines)))
    if thin := significance.thin([each.problem for each in responses], [each.source for each in responses]):
        print(f"few problems, so intervals are too narrow: {thin}")
    runs.report(counts | {"path": str(workdir / "best_of.json")})
    return result


def grouped(problems: Mapping[str, Problem], rollouts: Sequence[VerifiedRollout]) -> dict[str, list[VerifiedRollout]]:
    """Rollouts by problem, in their order. ValueError for one of an unknown problem, or one that is there twice."""
    found: dict[str, list[VerifiedRollout]] = {}
    seen: set[str] = set()
    for each in rollouts:
        name = example_id(each)
        if each.problem_id not in problems:
            raise ValueError(f"a rollout is of problem {each.problem_id!r}, which is not among the {len(problems)} "
                             "problems; give the file that the policies answered")
        if name in seen:
            raise ValueError(f"rollout {name!r} is there twice; give each response once")
        seen.add(name)
        found.setdefault(each.problem_id, []).append(each)
    return found


def example(problem: Problem, rollout: VerifiedRollout) -> JudgingExample:
    """A response as a judge takes it."""
    return JudgingExample(id=example_id(rollout), problem_id=problem.id, question=problem.question,
                          response=rollout.text, correct=rollout.correct, policy=rollout.policy, source=problem.source)


def scored(judge: str, judgements: Sequence[Judgement], rollouts: Sequence[VerifiedRollout]) -> dict[str, float]:
    """A score by example id, of those that have one: the mean of given scores, else the share of votes for "correct".

    ValueError for a judgement of another response than these.
    """
    votes = collections.defaultdict(list)
    for each in judgements:
        votes[each.example_id].append(each)
    known = {example_id(each) for each in rollouts}
    if unknown := next((name for name in votes if name not in known), None):
        raise ValueError(f"a judgement by {judge!r} is of {unknown!r}, which is not among the {len(known)} responses; "
                         "judge the examples.jsonl that this stage writes")
    found = {name: reward.mean_score(some) for name, some in votes.items()}
    return {name: score for name, score in found.items() if score is not None}


def pool(problems: Mapping[str, Problem], by_problem: Mapping[str, Sequence[VerifiedRollout]],
         scores: Mapping[str, Mapping[str, float]]) -> list[best_of.Responses]:
    """The responses of each problem with their answers, equal ones alike, and all judges' scores."""
    answers = baselines.number_answers({
        name: [extract.extract(each.text) if each.finish == "stop" else None for each in some]
        for name, some in by_problem.items()})
    return [best_of.Responses(
        problem=name, source=problems[name].source, right=np.array([each.correct is True for each in some]),
        answers=answers[name],
        scores={judge: np.array([given.get(example_id(each), np.nan) for each in some])
                for judge, given in scores.items()}) for name, some in by_problem.items()]


def doubling(most: int) -> tuple[int, ...]:
    """1, 2, 4 and so on, up to `most`."""
    return tuple(2**power for power in range(most.bit_length()))


def table(sizes: Sequence[int], lines: Sequence[best_of.Line]) -> tables.Table:
    """Accuracy by n; and at the largest n, paired, what a picker gains over chance and lacks to the verifier."""
    rows = [(line.picker, *map(tables.show, line.accuracy), tables.show(line.gain), tables.show(line.price))
            for line in lines]
    header = ("picked by", *(f"n={n}" for n in sizes), f"above chance, n={sizes[-1]}", f"below the verifier, n="
              f"{sizes[-1]}")
    return tables.Table(title="Share of picks that are right", header=header, rows=tuple(rows))


def main(argv: Sequence[str] | None = None) -> int:
    """`libra best_of`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=("examples.jsonl", "best_of.json", "best_of.svg"))


if __name__ == "__main__":
    raise SystemExit(main())
