"""Measures judges on examples with known labels: Judgement files -> report.html, report.json and a table.

    libra bench --workdir=DIR --config.examples=bench.jsonl --config.judgements=A/judgements.jsonl,B/judgements.jsonl
    libra bench --workdir=DIR --config.suite=libra_bench --config.examples=hf://datasets/meituan/Libra-Bench@main
    libra bench compare A/judgements.jsonl B/judgements.jsonl --config.examples=bench.jsonl

Without judgements (the second line) it only writes the suite's examples to DIR/examples.jsonl, for `libra judge`. The
third prints the paired tests alone: `libra compare --help`.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from libra_jax import config as configs
from libra_jax import records
from libra_jax.bench import power, published, report, slices, suites
from libra_jax.bench.significance import Bootstrap
from libra_jax.command import dry, entry
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.stages import compare
from libra_jax.train import metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured, and how it is shown.

    Attributes:
      examples: the file of the suite; of a published one also a folder of its files, or their place on the Hugging Face
        Hub, hf://datasets/OWNER/NAME@REVISION.
      judgements: files as `libra judge` writes them; a file may hold several judges. Two judges of one name are told
        apart by their files' folders.
      suite: what `examples` holds: JudgingExample records, or a published suite's own rows (bench/layouts.py).
      metrics: metrics.jsonl files of training runs, whose curves the report shows under their folders' names.
      title: the report's heading.
      bootstrap: how intervals are made.
      slices: the parts of the bench that are measured on their own.
      problems: Problem records, whose levels, where they have some, become slices.
      rollouts: VerifiedRollout records, whose share of right ones is each problem's difficulty; without, it is the
        share among the examples.
      target: the differences for which the number of problems is told.
      shown: at most so many examples are in the page; the numbers are always of all.
    """

    examples: Annotated[str, configs.File(folder=True)] = ""
    judgements: Annotated[tuple[str, ...], configs.File(Judgement)] = ()
    suite: Literal["records", "libra_bench", "reward_bench_2", "rm_bench", "judge_bench", "process_bench"] = "records"
    metrics: Annotated[tuple[str, ...], configs.File()] = ()
    title: str = "Libra: judges measured"
    bootstrap: Bootstrap = Bootstrap()
    slices: slices.SliceConfig = slices.SliceConfig()
    problems: Annotated[str, configs.File(Problem)] = ""
    rollouts: Annotated[str, configs.File(VerifiedRollout)] = ""
    target: power.Target = power.Target()
    shown: int = report.SHOWN


def check(config: Config) -> None:
    """ValueError where no examples are named."""
    if not config.examples:
        raise ValueError("--config.examples is empty; expected a file of judging examples")


def writes(config: Config) -> tuple[str, ...]:
    """The files that `run` makes."""
    return ("report.html", "report.json") if config.judgements else ("examples.jsonl",)


def look(config: Config) -> list[str]:
    """For --dry_run: the first examples, where they are records. ValueError for what is none."""
    if config.suite != "records":
        return []
    return [f"examples: {dry.file('examples', config.examples, configs.File(JudgingExample))}"]


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes report.html and report.json to `workdir` and prints the leaderboard; returns what report.json holds.

    Broken lines of the examples are set aside in examples.rejected.jsonl, those of judgements in
    judgements.NUMBER.rejected.jsonl, those of the others under their fields' names, and counted. Raises ValueError for
    an empty path, judgements that do not cover the examples (score.tabulate), or two judges that nothing tells apart;
    FileNotFoundError for no such file.
    """
    check(config)
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    broken: list[str] = []
    source = published.resolve(config.examples)
    examples = suites.load(config.suite, source, rejected=broken, aside=workdir / "examples.rejected.jsonl")
    if not config.judgements:
        count = records.write(workdir / "examples.jsonl", examples)
        print(report.to_text(contents(examples)))
        print(f"{count} examples in {workdir / 'examples.jsonl'}, {len(broken)} broken lines, of {source}; judge them "
              "with\n"
              f"  libra judge --workdir=DIR --config.examples={workdir / 'examples.jsonl'} --config.checkpoint=FOLDER")
        return {"examples": count, "broken_lines": len(broken)}
    by_judge = compare.read(config.judgements, workdir, broken)
    curves = {}
    for path, name in zip(config.metrics, run_names(config.metrics), strict=True):
        curves |= training_curves(name, metrics.read(pathlib.Path(path)))
    numbers = report.write(workdir, title=config.title, examples=examples, judgements_by_judge=by_judge, curves=curves,
                           bootstrap=config.bootstrap, slicings=_divide(config, examples, workdir, broken),
                           target=config.target, shown=config.shown)
    print(report.to_text(report.Table(**numbers["leaderboard"])))
    print(f"{len(examples)} examples, {len(broken)} broken lines; {workdir / 'report.html'}")
    return numbers | {"broken_lines": len(broken)}


def contents(examples: Sequence[JudgingExample]) -> report.Table:
    """Problems, and correct and incorrect responses, in each source."""
    kinds = collections.Counter((example.source, example.correct) for example in examples)
    problems = collections.Counter(name for name, _ in {(example.source, example.problem_id) for example in examples})
    table = [(name, problems[name], kinds[name, True], kinds[name, False]) for name in sorted(problems)]
    return report.Table(title="Examples", header=("source", "problems", "correct", "incorrect"), rows=tuple(table))


def _divide(config: Config, examples: Sequence[JudgingExample], workdir: pathlib.Path, broken: list[str]
            ) -> list[slices.Slicing]:
    """The slices of the examples, with levels and difficulty from the files that the config names."""
    levels = shares = None
    if config.problems:
        found = records.read(config.problems, Problem, rejected=broken, aside=workdir / "problems.rejected.jsonl")
        levels = {problem.id: problem.level for problem in found if problem.level}
    if config.rollouts:
        given = records.read(config.rollouts, VerifiedRollout, rejected=broken,
                             aside=workdir / "rollouts.rejected.jsonl")
        shares = slices.right_shares([(rollout.problem_id, rollout.correct) for rollout in given])
    return slices.divide(examples, config.slices, levels=levels, shares=shares)


def run_names(paths: Sequence[str]) -> list[str]:
    """A name for each run by its metrics file: its folder's, with as many parents' as it takes to tell runs apart."""
    parts = [pathlib.Path(path).absolute().parts[:-1] for path in paths]
    depth = 1
    while len({each[-depth:] for each in parts}) < len(set(parts)):
        depth += 1
    return ["-".join(each[-depth:]) for each in parts]


def training_curves(label: str, rows: Sequence[dict], names: Sequence[str] = ()
                    ) -> dict[str, list[tuple[float, float]]]:
    """The rows of a metrics.jsonl as curves for the report: "label/metric" -> [(step, value), ...].

    `names`: these metrics alone, in this order, as far as the rows have them; default: all.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step":
                curves.setdefault(f"{label}/{name.replace('/', ' ')}", []).append((row["step"], value))
    wanted = [f"{label}/{name.replace('/', ' ')}" for name in names]
    return {name: curves[name] for name in wanted if name in curves} if names else curves


def main(argv: Sequence[str] | None = None) -> int:
    """`libra bench`, and `libra bench compare A B`; see the module's docstring."""
    argv = list(sys.argv if argv is None else argv)
    if argv[1:2] == ["compare"]:
        return compare.main([f"{argv[0]} compare", *argv[2:]])
    return entry.main(run, Config(), argv, check=check, writes=writes, look=look)


if __name__ == "__main__":
    raise SystemExit(main())
