"""Paired tests between judges of the same examples, corrected for their number: prints two tables.

    libra bench compare A/judgements.jsonl B/judgements.jsonl --config.examples=bench.jsonl
    libra bench compare runs/a runs/b runs/c
    libra compare --workdir=DIR --config.judgements=A/judgements.jsonl,B/judgements.jsonl --config.examples=bench.jsonl

A folder stands for its judgements.jsonl; without examples, those that `libra judge` noted there are taken. The tables,
and compare.json with the same numbers, go to --workdir, by default the folder "compare" beside the last judgements.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from libra_jax import config as configs
from libra_jax import records
from libra_jax.bench import paired, power, published, report, suites
from libra_jax.bench.significance import Bootstrap
from libra_jax.command import entry
from libra_jax.records import Judgement

FILE = "judgements.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is compared, and how.

    Attributes:
      judgements: files as `libra judge` writes them, or their folders; a file may hold several judges.
      examples: the file of the suite; default: what all folders' run_config.json say was judged.
      suite: what `examples` holds: JudgingExample records, or a published suite's own rows (bench/layouts.py).
      metric: what is compared, of those in bench/score.py.
      bootstrap: how intervals and p-values are made; 1 - level is also the level of the tests.
      target: the differences (of mean_of_sources) for which the number of problems is told.
    """

    judgements: Annotated[tuple[str, ...], configs.File(Judgement, folder=True)] = ()
    examples: Annotated[str, configs.File(folder=True)] = ""
    suite: Literal["records", "libra_bench", "reward_bench_2", "rm_bench", "judge_bench", "process_bench"] = "records"
    metric: str = "mean_of_sources"
    bootstrap: Bootstrap = Bootstrap()
    target: power.Target = power.Target()


def check(config: Config) -> None:
    """ValueError where no judgements are named."""
    if not config.judgements:
        raise ValueError("--config.judgements is empty; expected files of judgements, as `libra judge` writes them")


def run(config: Config, workdir: pathlib.Path) -> list[dict]:
    """Prints the tests and writes compare.json; returns what that holds, a row for each pair.

    Broken lines are set aside as in the bench stage. Raises ValueError for fewer than two judges, an unknown metric, no
    examples, or judgements that do not cover them; FileNotFoundError for no such file.
    """
    check(config)
    files = [_file(path) for path in config.judgements]
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    broken: list[str] = []
    source = published.resolve(config.examples or _noted_examples(files))
    examples = suites.load(config.suite, source, rejected=broken, aside=workdir / "examples.rejected.jsonl")
    by_judge = read(files, workdir, broken)
    if len(by_judge) < 2:
        raise ValueError(f"{len(by_judge)} judge, {', '.join(by_judge)}: expected two or more to compare")
    found = paired.compare(examples, by_judge, config.bootstrap, metric=config.metric, target=config.target)
    rows = [dataclasses.asdict(each) for each in found]
    records.write_json(workdir / "compare.json", rows)
    for table in (report.differences(found, config.metric, config.bootstrap),
                  report.needs(found, config.target, config.bootstrap.level)):
        print(f"{report.to_text(table)}\n{table.note}\n")
    if warning := report.caution(examples):
        print(warning)
    print(f"{len(examples)} examples, {len(broken)} broken lines; {workdir / 'compare.json'}")
    return rows


def read(paths: Sequence[str], workdir: pathlib.Path, broken: list[str]) -> dict[str, list[Judgement]]:
    """Judgements of all files by judge, in the order of the files; `broken` gains a line for each broken one."""
    found: dict[tuple[str, str], list[Judgement]] = {}
    for number, path in enumerate(paths):
        aside = workdir / f"judgements.{number}.rejected.jsonl"
        for judgement in records.read(path, Judgement, rejected=broken, aside=aside):
            found.setdefault((judgement.judge, path), []).append(judgement)
    uses = collections.Counter(judge for judge, _ in found)
    result: dict[str, list[Judgement]] = {}
    for (judge, path), judgements in found.items():
        name = judge if uses[judge] == 1 else f"{judge} ({pathlib.Path(path).parent.name})"
        if name in result:
            raise ValueError(f"{path}: judge {name!r} is there twice; judge again with another --config.name")
        result[name] = judgements
    if not result:
        kinds = " or ".join(records.kinds(paths[0]))
        raise ValueError(f"--config.judgements={','.join(paths)}: no judgements; expected JSON lines of Judgement, as "
                         f"`libra judge` writes them{f'; these are lines of {kinds}' if kinds else ''}")
    return result


def _file(path: str) -> str:
    return str(pathlib.Path(path) / FILE) if pathlib.Path(path).is_dir() else path


def _noted_examples(files: Sequence[str]) -> str:
    """The examples that `libra judge` notes beside its judgements. ValueError where folders do not agree on one."""
    noted = set()
    for file in files:
        note = pathlib.Path(file).with_name("run_config.json")
        found = json.loads(note.read_text(encoding="utf-8")).get("examples", "") if note.is_file() else ""
        noted.add(str(found))
    if len(noted) != 1 or "" in noted:
        raise ValueError(f"--config.examples is empty, and the judgements' folders note {sorted(noted)}; expected the "
                         "one file of judging examples that all judges judged")
    return noted.pop()


def flags(words: Sequence[str]) -> list[str]:
    """The flags for the judgements that `words` begins with, and --workdir if it is not there; then the rest."""
    given = []
    while len(given) < len(words) and not words[len(given)].startswith("-"):
        given.append(words[len(given)])
    rest = list(words[len(given):])
    made = [f"--config.judgements={','.join(given)}"] if given else []
    if given and not any(word.partition("=")[0] == "--workdir" for word in rest):
        made.append(f"--workdir={pathlib.Path(_file(given[-1])).parent / 'compare'}")
    return made + rest


def main(argv: Sequence[str] | None = None) -> int:
    """`libra bench compare A B` or `libra compare`; see the module's docstring."""
    argv = list(sys.argv if argv is None else argv)
    return entry.main(run, Config(), [argv[0], *flags(argv[1:])], check=check, writes=("compare.json",))


if __name__ == "__main__":
    raise SystemExit(main())
