"""V2V: verified rollouts become judging sets, train.jsonl and bench.jsonl, of disjoint problems.

    libra curate --workdir=DIR --config.problems=problems.jsonl --config.rollouts=verified.jsonl

Prints what each rule removed, and writes it with counts and the hashes of its inputs to card.json. The output is a
function of the inputs' records and the config: order, interruptions and the machine change nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence

from libra_jax import config as configs
from libra_jax import records
from libra_jax.judging import v2v
from libra_jax.judging.v2v import V2VConfig
from libra_jax.records import JudgingExample, Problem, VerifiedRollout


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is curated, and how.

    Attributes:
      problems: JSON lines of Problem.
      rollouts: JSON lines of VerifiedRollout, as `libra verify` writes them.
      bench_fraction: share of the questions held out for the bench.
      v2v: the rules.
    """

    problems: str = ""
    rollouts: str = ""
    bench_fraction: float = 0.2
    v2v: V2VConfig = V2VConfig()


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes train.jsonl, bench.jsonl and then card.json to `workdir`, each whole or not at all; returns the card.

    Broken input lines are set aside in problems.rejected.jsonl and rollouts.rejected.jsonl in `workdir` and counted in
    the card, which is written last: without it the others are of an unfinished run. Raises ValueError for a missing
    path in the config or one problem id with two contents, FileNotFoundError for no such file.
    """
    for name in ("problems", "rollouts"):
        if not getattr(config, name):
            raise ValueError(f"--config.{name} is empty; expected a file of JSON lines")
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    for name in ("card.json", "problems.rejected.jsonl", "rollouts.rejected.jsonl"):
        (workdir / name).unlink(missing_ok=True)
    rejected: dict[str, list[str]] = {"problems": [], "rollouts": []}

    def read(name: str, cls: type) -> list:
        aside = workdir / f"{name}.rejected.jsonl"
        return list(records.read(getattr(config, name), cls, rejected=rejected[name], aside=aside))

    train, bench = v2v.split(read("problems", Problem), config.bench_fraction, config.v2v.seed)
    rollouts = read("rollouts", VerifiedRollout)
    unknown = sum(rollout.problem_id not in train and rollout.problem_id not in bench for rollout in rollouts)
    bench_set = v2v.curate(bench, _of(bench, rollouts), config.v2v)
    train_set = v2v.curate(train, _of(train, rollouts), config.v2v,
                           bench_questions=[problem.question for problem in bench.values()])
    card = {
        "config": dataclasses.asdict(dataclasses.replace(config, problems=pathlib.Path(config.problems).name,
                                                         rollouts=pathlib.Path(config.rollouts).name)),
        "inputs": {name: _sha256(getattr(config, name)) for name in ("problems", "rollouts")},
        "broken_lines": {name: len(lines) for name, lines in rejected.items()},
        "rollouts_of_unknown_problems": unknown,
    }
    for name, problems, curated in (("train", train, train_set), ("bench", bench, bench_set)):
        records.write(workdir / f"{name}.jsonl", curated.examples)
        card[name] = _counts(problems, curated)
        print(_table(f"{name}: {len(problems)} problems", curated.table))
    print(f"broken lines set aside: {len(rejected['problems'])} of problems, {len(rejected['rollouts'])} of rollouts; "
          f"rollouts of unknown problems: {unknown}")
    for line in [*rejected["problems"], *rejected["rollouts"]][:10]:
        print(f"  {line}")
    records.write_json(workdir / "card.json", card)
    return card


def _of(problems: dict[str, Problem], rollouts: Sequence[VerifiedRollout]) -> list[VerifiedRollout]:
    return [rollout for rollout in rollouts if rollout.problem_id in problems]


def _counts(problems: dict[str, Problem], curated: v2v.Curated) -> dict:
    examples = curated.examples
    return {
        "problems_given": len(problems),
        "problems": len({example.problem_id for example in examples}),
        "examples": len(examples),
        "correct": sum(example.correct for example in examples),
        "by_source": _by(examples, "source"),
        "by_policy": _by(examples, "policy"),
        "rules": [{"rule": rule, "removed": removed, "left": left} for rule, removed, left in curated.table],
    }


def _by(examples: Sequence[JudgingExample], field: str) -> dict[str, dict[str, int]]:
    counts = collections.Counter((getattr(example, field), example.correct) for example in examples)
    names = sorted({name for name, _ in counts})
    return {name: {"correct": counts[name, True], "incorrect": counts[name, False]} for name in names}


def _table(title: str, table: Sequence[tuple[str, int, int]]) -> str:
    width = max(len(rule) for rule, _, _ in table)
    lines = [title, f"  {'rule':<{width}}  removed     left"]
    return "\n".join(lines + [f"  {rule:<{width}} {removed:8,} {left:8,}" for rule, removed, left in table])


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """`libra curate`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
