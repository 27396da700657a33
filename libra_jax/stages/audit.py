r"""Audits labels and judges: a page to label disagreements, the noise of labels, and probes of biases.

    libra audit --workdir=DIR --config.examples=bench.jsonl --config.judgements=A/judgements.jsonl,B/judgements.jsonl
    libra audit --workdir=DIR --config.examples=bench.jsonl --config.judgements=A/judgements.jsonl,B/judgements.jsonl \
        --config.human=labels.jsonl

The first draws responses into label.html and sample.jsonl; the second, with the labels that the page exported, says
what share of the labels is wrong. `--config.rollouts=verified.jsonl --config.problems=problems.jsonl` says who decided
the labels and shows references, and without examples all rollouts are audited. Numbers go to audit.json.

    libra audit --workdir=DIR --config.examples=bench.jsonl --config.probes=all
    libra audit --workdir=DIR --config.examples=bench.jsonl --config.probes=all \
        --config.judgements=A/judgements.jsonl

The first writes probed.jsonl, the examples and changed copies of them, for `libra judge`; the second says how often the
judge's verdict flips. Numbers go to probes.json.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.bench import audit, labelling, noise, probes, report
from libra_jax.bench.audit import Item
from libra_jax.bench.significance import Bootstrap
from libra_jax.command import entry
from libra_jax.records import HumanLabel, Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.stages import compare


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is audited.

    Attributes:
      examples: JSON lines of JudgingExample.
      rollouts: JSON lines of VerifiedRollout; where given, their labels count and not the examples'.
      problems: JSON lines of Problem, for references, and for the questions of rollouts.
      judgements: files as `libra judge` writes them.
      human: files of HumanLabel, as the page exports them; several people may label the same responses.
      draw: how many responses are drawn for people.
      show_reference: the page shows the reference answer, where there is one.
      probes: empty, "all", or names in bench/probes.py: probe judges instead of auditing labels.
      probed: how many of the examples are probed, chosen by hash; 0 for all.
      bootstrap: how the intervals of probes are made; its level is that of the others too.
    """

    examples: Annotated[str, configs.File(JudgingExample)] = ""
    rollouts: Annotated[str, configs.File(VerifiedRollout)] = ""
    problems: Annotated[str, configs.File(Problem)] = ""
    judgements: Annotated[tuple[str, ...], configs.File(Judgement)] = ()
    human: Annotated[tuple[str, ...], configs.File(HumanLabel)] = ()
    draw: audit.Draw = audit.Draw()
    show_reference: bool = True
    probes: tuple[str, ...] = ()
    probed: int = 0
    bootstrap: Bootstrap = Bootstrap()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Made:
    """What a draw depends on; labels of people fit only the draw that they were made for."""

    examples: str
    rollouts: str
    problems: str
    judgements: str
    draw: audit.Draw


def check(config: Config) -> None:
    """ValueError for paths that are missing, or not for what is asked."""
    if config.probes:
        unused = [name for name in ("rollouts", "problems", "human") if getattr(config, name)]
        if unused:
            raise ValueError(f"--config.{unused[0]} is not for probes; leave it out")
        runs.need(config, "examples")
        probes.named(config.probes)
    elif config.probed:
        raise ValueError("--config.probed is for probes; give --config.probes too, or leave it out")
    elif not config.examples and not config.rollouts:
        raise ValueError("--config.examples and --config.rollouts are empty; expected a path in one of them")


def writes(config: Config) -> tuple[str, ...]:
    """The files that `run` makes."""
    return ("probed.jsonl", "probes.json") if config.probes else ("label.html", "sample.jsonl", "audit.json")


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Audits labels, or probes judges where `config.probes` says so; returns what audit.json or probes.json holds.

    Broken lines of a file are set aside in NAME.rejected.jsonl of `workdir` and counted. Raises ValueError for missing
    or needless paths, inputs that do not fit each other, or a workdir whose sample was drawn from other inputs.
    """
    check(config)
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    broken: list[str] = []
    found = _probe(config, workdir, broken) if config.probes else _audit(config, workdir, broken)
    print(f"{len(broken)} broken lines set aside")
    for line in broken[:10]:
        print(f"  {line}")
    found |= {"broken_lines": len(broken)}
    records.write_json(workdir / ("probes.json" if config.probes else "audit.json"), found)
    return found


def _audit(config: Config, workdir: pathlib.Path, broken: list[str]) -> dict[str, Any]:
    items = audit.gather(
        _read(config, "examples", JudgingExample, workdir, broken),
        _read(config, "rollouts", VerifiedRollout, workdir, broken),
        {problem.id: problem for problem in _read(config, "problems", Problem, workdir, broken)},
        compare.read(config.judgements, workdir, broken) if config.judgements else {})
    if not items:
        raise ValueError("there is nothing to audit: no examples and no rollouts in the given files")
    drawn = audit.draw(items, config.draw)
    made = _Made(examples=config.examples, rollouts=config.rollouts, problems=config.problems, draw=config.draw,
                 judgements=" ".join(runs.fingerprint(pathlib.Path(path)) for path in config.judgements))
    runs.claim(workdir / "sample.jsonl.config.json", made, inputs=("examples", "rollouts", "problems"))
    records.write(workdir / "sample.jsonl", drawn)
    labelling.write(workdir / "label.html", title="Libra: is the final answer correct?", items=drawn,
                    show_reference=config.show_reference)
    strata = _strata(items, drawn)
    found: dict[str, Any] = {"responses": len(items), "drawn": len(drawn), "seed": config.draw.seed,
             "strata": [dict(zip(("kind", "source", "responses", "drawn", "weight"), row, strict=True))
                        for row in strata]}
    print(report.to_text(report.Table(title="What is drawn, and for how many each drawn one stands", rows=tuple(strata),
                                      header=("kind", "source", "responses", "drawn", "weight"))))
    if config.human:
        found["human"] = _people(config, workdir, broken, items, drawn)
    else:
        print(f"label them in a browser: {workdir / 'label.html'}; give its export back as --config.human=labels.jsonl")
    return found


def _people(config: Config, workdir: pathlib.Path, broken: list[str], items: Sequence[Item], drawn: Sequence[Item]
            ) -> dict[str, Any]:
    """What people's labels say, printed and as audit.json holds it; second.html has what should be looked at again."""
    given = [label for number, path in enumerate(config.human)
             for label in records.read(path, HumanLabel, rejected=broken,
                                       aside=workdir / f"human.{number}.rejected.jsonl")]
    people = audit.matched(drawn, given)
    labels = people.labels
    if not labels:
        raise ValueError(f"{', '.join(config.human)}: none of {len(given)} labels is of a drawn response; expected the "
                         f"export of {workdir / 'label.html'}")
    level = config.bootstrap.level
    shares = noise.estimate(items, drawn, labels, level=level)
    print(report.to_text(report.Table(title=f"What people say, {level:.0%} intervals", rows=tuple(_rows(shares)),
                                      header=("share", "value", "labels", "stand for", "of"))))
    again = [item for item in drawn if item.id in labels and _again(item, labels[item.id])]
    second = workdir / "second.html"
    second.unlink(missing_ok=True)
    if again:
        labelling.write(second, title="Libra: a second look", items=again, show_reference=config.show_reference)
    unsure = sum(label.correct is None for label in labels.values()) - len(people.disputed)
    print(f"{noise.METHOD}\n{len(given)} labels: {len(labels)} drawn responses are labelled; people could not tell of "
          f"{unsure} and disagree on {len(people.disputed)}; {people.strangers} labels are of others\n"
          f"{len(again)} to look at again" + f": {second}" * bool(again))
    return {
        "labels": len(given), "labelled": len(labels), "could_not_tell": unsure, "disputed": len(people.disputed),
        "of_others": people.strangers,
        "level": level, "method": noise.METHOD, "shares": _plain(shares),
        "again": [{"id": item.id, "kind": item.kind, "label": item.correct, "people": labels[item.id].correct,
                   "note": labels[item.id].note, "judges": {each.judge: each.verdict for each in item.opinions}}
                  for item in again],
    }


def _again(item: Item, label: HumanLabel) -> bool:
    """Whether people contradict the label, could not tell, or disagree."""
    return label.correct is None or (item.correct is not None and item.correct is not label.correct)


def _rows(shares: Mapping[str, Mapping[str, noise.Share]]) -> Iterator[tuple[str, str, int, int, int]]:
    """Rows of the printed table: what, share with interval, labels, what they stand for, of how many."""
    texts = {"overall": "{} labels wrong", "by_source": "labels wrong in {}", "by_label": "label {}, wrong",
             "by_kind": "{}, label wrong", "undecided": "undecided ones {}", "judges": "verdicts of {} wrong"}
    for group, text in texts.items():
        for name, share in shares[group].items():
            yield text.format(name), report.show(share), share.labels, share.covered, share.population


def _strata(items: Sequence[Item], drawn: Sequence[Item]) -> list[tuple[str, str, int, int, float | None]]:
    sizes, counts = (collections.Counter(item.stratum for item in some) for some in (items, drawn))
    return [(*stratum, sizes[stratum], counts[stratum], sizes[stratum] / counts[stratum]) for stratum in sorted(sizes)]


def _probe(config: Config, workdir: pathlib.Path, broken: list[str]) -> dict[str, Any]:
    """Writes probed.jsonl, and with judgements prints the tables of probes and of length."""
    chosen = probes.choose(_read(config, "examples", JudgingExample, workdir, broken), config.probed)
    copies = probes.perturb(chosen, probes.named(config.probes))
    path = workdir / "probed.jsonl"
    records.write(path, [*chosen, *(copy for some in copies.values() for copy in some)])
    found: dict[str, Any] = {"examples": len(chosen), "probes": {name: len(some) for name, some in copies.items()}}
    if not config.judgements:
        print(f"{sum(map(len, copies.values()))} changed copies of {len(chosen)} examples in {path}; judge them with\n"
              f"  libra judge --workdir=JUDGED --config.examples={path} --config.checkpoint=FOLDER\n"
              "and give --config.judgements=JUDGED/judgements.jsonl")
        return found
    by_judge = compare.read(config.judgements, workdir, broken)
    found |= {"bootstrap": dataclasses.asdict(config.bootstrap), "judges": {}}
    for judge, judgements in by_judge.items():
        measured = probes.measure(chosen, copies, judgements, config.bootstrap)
        length = probes.length_bias(chosen, judgements, config.bootstrap)
        for table in (*_probe_tables(judge, measured), _length_table(judge, length)):
            print(report.to_text(table))
        found["judges"][judge] = {"probes": _plain(measured), "length": _plain(length)}
    return found


def _probe_tables(judge: str, measured: Mapping[str, Mapping[str, probes.Flips]]) -> list[report.Table]:
    """A table of the probes that should change nothing, and one of those that may."""
    header = ("probe", "label", "copies", "to correct", "to incorrect", "to unparsed", "shift to correct", "beyond")
    tables = []
    for apart, title in ((False, "flips by changes that should change nothing"), (True, "flips by changes that may")):
        rows = [(name, label, each.examples, *map(report.show, (each.to_correct, each.to_incorrect, each.to_unparsed,
                                                               each.shift)), probes.beyond(each.shift))
                for name, flips in measured.items() if (name in probes.APART) == apart
                for label, each in flips.items()]
        if rows:
            tables.append(report.Table(title=f"{judge}: {title}", header=header, rows=tuple(rows)))
    return tables


def _length_table(judge: str, length: Mapping[str, Any]) -> report.Table:
    rows = [(label, report.show(estimate)) for label, estimate in length.items()]
    return report.Table(title=f"{judge}: chance that a response it calls correct is longer than one it does not "
                        "(0.5: no bias)", header=("label", "chance"), rows=tuple(rows))


def _read(config: Config, name: str, cls: type, workdir: pathlib.Path, broken: list[str]) -> list[Any]:
    """The records of the file that the field `name` gives, or none where it is empty."""
    path = getattr(config, name)
    return list(records.read(path, cls, rejected=broken, aside=workdir / f"{name}.rejected.jsonl")) if path else []


def _plain(value: Any) -> Any:
    """Dataclasses inside mappings as JSON has them."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


def main(argv: Sequence[str] | None = None) -> int:
    """`libra audit`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=writes)


if __name__ == "__main__":
    raise SystemExit(main())
