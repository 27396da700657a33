r"""V2V: verified rollouts become judging sets, train.jsonl and bench.jsonl, of disjoint problems.

    libra curate --workdir=DIR --config.problems=problems.jsonl --config.rollouts=verified.jsonl
    libra curate --workdir=DIR --config.problems=A.jsonl,B.jsonl --config.rollouts=A/verified.jsonl,B/verified.jsonl \
        --config.licences=gsm8k=MIT,math=MIT --config.v2v.bands=0.2,0.8

With --config.ranking.responses=4 also ranking questions of the responses that stay: ranking_train.jsonl and
ranking_bench.jsonl. Prints what each rule removed, and writes the data card: card.json, and card.md to read. The output
is a function of the inputs' records and the config: order, interruptions and the machine change nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import itertools
import json
import pathlib
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.command import entry
from libra_jax.data import beam
from libra_jax.judging import card as cards
from libra_jax.judging import ranking, v2v
from libra_jax.judging.prompt import LETTERS
from libra_jax.judging.ranking import RankingConfig
from libra_jax.judging.v2v import V2VConfig
from libra_jax.records import JudgingExample, Problem, VerifiedRollout

SIDES = beam.SIDES
PARTS = "curate.partial"  # a folder of the workdir, while it works


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is curated, and how.

    Attributes:
      problems: files of JSON lines of Problem.
      rollouts: files of JSON lines of VerifiedRollout, as `libra verify` writes them.
      bench_fraction: share of the questions held out for the bench.
      v2v: the rules.
      ranking: questions of which of several responses is right; by default none. One process holds the set for it.
      licences: of the sources, for the card, each as SOURCE=LICENCE; the others are "unknown".
      beam: options of an Apache Beam pipeline, such as runner=DirectRunner,direct_num_workers=2, which then makes the
        same bytes; its workers must see `workdir` and the inputs. Empty: this process alone, without Beam.
    """

    problems: Annotated[tuple[str, ...], configs.File(Problem)] = ()
    rollouts: Annotated[tuple[str, ...], configs.File(VerifiedRollout)] = ()
    bench_fraction: float = 0.2
    v2v: V2VConfig = V2VConfig()
    ranking: RankingConfig = RankingConfig()
    licences: tuple[str, ...] = ()
    beam: tuple[str, ...] = ()


def check(config: Config) -> None:
    """ValueError for a path that is missing."""
    runs.need(config, "problems", "rollouts")


def writes(config: Config) -> tuple[str, ...]:
    """The files that `run` makes."""
    ranked = tuple(f"ranking_{name}.jsonl" for name in SIDES) if config.ranking.responses else ()
    return ("train.jsonl", "bench.jsonl", *ranked, "card.json", "card.md")


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes train.jsonl, bench.jsonl, if wished ranking questions of both, card.md and then card.json to `workdir`,
    each whole or not at all; returns the card.

    Broken input lines are set aside in problems.rejected.jsonl and rollouts.rejected.jsonl in `workdir` and counted in
    the card, which is written last: without it the others are of an unfinished run. Raises ValueError for a missing
    path in the config, one problem id with two contents, or the licence of an unknown source; FileNotFoundError for no
    such file.
    """
    check(config)
    config = dataclasses.replace(config, problems=_sorted(config.problems), rollouts=_sorted(config.rollouts))
    workdir = pathlib.Path(workdir)
    parts = workdir / PARTS
    for name in ("card.json", "card.md", "problems.rejected.jsonl", "rollouts.rejected.jsonl",
                 *(f"ranking_{name}.jsonl" for name in SIDES)):
        (workdir / name).unlink(missing_ok=True)
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    inputs = {name: _fingerprints(getattr(config, name)) for name in ("problems", "rollouts")}
    problems = _read(config.problems, Problem, _asides(config.problems, "problems", parts))
    licences = _licences(config.licences, problems)
    sides = dict(zip(SIDES, v2v.split(problems, config.bench_fraction, config.v2v.seed), strict=True))
    counts, unknown = (_under_beam if config.beam else _here)(config, sides, workdir)
    ranked = {name: _rank(config, name, workdir) for name in SIDES} if config.ranking.responses else {}
    broken = {name: _gather(name, parts, workdir) for name in ("problems", "rollouts")}
    card: dict[str, Any] = {
        "config": _shown(config),
        "command": _command(config),
        "inputs": inputs,
        "outputs": {f"{name}.jsonl": runs.fingerprint(workdir / f"{name}.jsonl") for name in SIDES},
        "licences": licences,
        "broken_lines": {name: len(lines) for name, lines in broken.items()},
        "rollouts_of_unknown_problems": unknown,
        **{name: {"problems_given": len(sides[name]), **counts[name]} for name in SIDES},
    }
    if ranked:
        card["ranking"] = ranked
    else:
        del card["config"]["ranking"]  # and the card is that of a set without it
    for name in SIDES:
        print(cards.rules_table(f"{name}: {len(sides[name])} problems", card[name]["rules"]))
    print(f"broken lines set aside: {len(broken['problems'])} of problems, {len(broken['rollouts'])} of rollouts; "
          f"rollouts of unknown problems: {unknown}")
    for name, found in ranked.items():
        print(f"ranking_{name}: {found['questions']:,} questions of {config.ranking.responses} responses; "
              f"{found['problems_without']:,} problems have too few for one")
    for line in [*broken["problems"], *broken["rollouts"]][:10]:
        print(f"  {line}")
    shutil.rmtree(parts)
    records.write_text(workdir / "card.md", cards.markdown(card))
    records.write_json(workdir / "card.json", card)
    return card


def _here(config: Config, sides: Mapping[str, dict[str, Problem]], workdir: pathlib.Path) -> tuple[dict, int]:
    """Writes both sets; returns their counts, and the number of rollouts of unknown problems."""
    rollouts = _read(config.rollouts, VerifiedRollout, _asides(config.rollouts, "rollouts", workdir / PARTS))
    held_out = [problem.question for problem in sides["bench"].values()]
    counts = {}
    for name, problems in sides.items():
        own = [rollout for rollout in rollouts if rollout.problem_id in problems]
        curated = v2v.curate(problems, own, config.v2v, bench_questions=held_out if name == "train" else ())
        records.write(workdir / f"{name}.jsonl", curated.examples)
        counts[name] = cards.counts(curated.examples, curated.table, curated.tallies)
    known = sides["train"].keys() | sides["bench"].keys()
    return counts, sum(rollout.problem_id not in known for rollout in rollouts)


def _under_beam(config: Config, sides: Mapping[str, dict[str, Problem]], workdir: pathlib.Path) -> tuple[dict, int]:
    """As `_here`, by a pipeline."""
    parts = workdir / PARTS
    asides = _asides(config.rollouts, "rollouts", parts)
    beam.curate(config.problems, list(zip(config.rollouts, map(str, asides), strict=True)), config.v2v,
                config.bench_fraction, parts, config.beam)
    for name in sides:
        shards = sorted(parts.glob(f"{name}-*.jsonl"))
        records.write(workdir / f"{name}.jsonl",
                      (example for shard in shards for example in records.read(shard, JudgingExample)))
    said = {name: json.loads((parts / f"{name}.json").read_text(encoding="utf-8")) for name in (*sides, "unknown")}
    return {name: said[name] for name in sides}, said["unknown"]


def _rank(config: Config, side: str, workdir: pathlib.Path) -> dict[str, Any]:
    """Writes the ranking questions of train.jsonl or bench.jsonl; returns what the card says of them."""
    examples = list(records.read(workdir / f"{side}.jsonl", JudgingExample))
    made = ranking.rank(examples, config.ranking, config.v2v.seed)
    path = workdir / f"ranking_{side}.jsonl"
    records.write(path, made)
    places = collections.Counter(each.right for each in made)
    without = {each.problem_id for each in examples} - {each.problem_id for each in made}
    return {"questions": len(made), "problems_without": len(without), "sha256": runs.fingerprint(path),
            "right_at": {letter: places[place] for place, letter in enumerate(LETTERS[: config.ranking.responses])}}


def _asides(paths: Sequence[str], role: str, parts: pathlib.Path) -> list[pathlib.Path]:
    """Where the broken lines of each file go, until `_gather`."""
    return [parts / f"{role}-{number:05d}.rejected.jsonl" for number in range(len(paths))]


def _read(paths: Sequence[str], cls: type, asides: Sequence[pathlib.Path]) -> list:
    broken: list[str] = []
    found = [each for path, aside in zip(paths, asides, strict=True)
             for each in records.read(path, cls, rejected=broken, aside=aside)]
    runs.some(found, paths[0], cls, broken)
    return found


def _gather(role: str, parts: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    """Joins what was set aside of each file in `workdir`/<role>.rejected.jsonl; returns a line for each."""
    text = "".join(part.read_text(encoding="utf-8") for part in sorted(parts.glob(f"{role}-*.rejected.jsonl")))
    if text:
        records.write_text(workdir / f"{role}.rejected.jsonl", text)
    notes = [json.loads(line) for line in text.split("\n") if line]
    return [f"{note['file']}:{note['line']}: {note['error']}" for note in notes]


def _sorted(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({str(pathlib.Path(path)) for path in paths}))


def _names(paths: Sequence[str]) -> list[str]:
    """The files' names, with as many of their folders as tell them apart."""
    parts = [pathlib.Path(path).parts for path in paths]
    depth = next(depth for depth in itertools.count(1) if len({each[-depth:] for each in parts}) == len(parts))
    return ["/".join(each[-depth:]) for each in parts]


def _fingerprints(paths: Sequence[str]) -> list[dict[str, str]]:
    return [{"file": name, "sha256": runs.fingerprint(pathlib.Path(path))}
            for name, path in zip(_names(paths), paths, strict=True)]


def _licences(given: Sequence[str], problems: Iterable[Problem]) -> dict[str, str]:
    """The licence of every source, "unknown" where none is given."""
    found = dict.fromkeys(sorted({problem.source for problem in problems}), "unknown")
    for item in given:
        source, _, licence = item.rpartition("=")
        if not source or not licence:
            raise ValueError(f"--config.licences: {item!r}: expected SOURCE=LICENCE, such as gsm8k=MIT")
        if source not in found:
            near = "".join(difflib.get_close_matches(source, found, 1, 0)[:1])
            raise ValueError(f"--config.licences: no problem is of the source {source!r}; the nearest is {near!r}")
        found[source] = licence
    return found


def _shown(config: Config) -> dict:
    """The config that the card tells: files by name, and not where it ran, which changes nothing."""
    names: dict[str, Any] = {role: tuple(_names(getattr(config, role))) for role in ("problems", "rollouts")}
    shown = json.loads(configs.to_json(dataclasses.replace(config, **names)))
    del shown["beam"]
    return shown


def _command(config: Config) -> str:
    """The command that makes this card again from files of these names, with what differs from the defaults."""
    words = ["libra", "curate", "--workdir=DIR"]
    shown, default = _shown(config), configs.to_json(Config())
    for path in configs.field_paths(config):
        if path != "beam":
            value, usual = shown, json.loads(default)
            for name in path.split("."):
                value, usual = value[name], usual[name]
            if value != usual:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                words.append(shlex.quote(f"--config.{path}={text}"))
    return " ".join(words)


def main(argv: Sequence[str] | None = None) -> int:
    """`libra curate`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=writes)


if __name__ == "__main__":
    raise SystemExit(main())
