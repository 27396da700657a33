r"""Rejection sampling in rounds: judge, keep, fine-tune, measure, and again with the better judge.

    libra rounds --workdir=DIR --config.checkpoint=FOLDER --config.examples=train.jsonl --config.bench=bench.jsonl \
        --config.rounds=3

Round n lies in round_n/: reject/ (the judge of the round before judges the examples), kept.jsonl (what is trained on),
sft/ (whose export is the round's judge) and judge/ (its judgements of the bench). round_0/judge is the judge that was
given. Ends in bench/report.html, rounds.json and a table. Each part is a stage of its own, so that a killed run goes on
where it stopped and ends with the same bytes, and a larger `rounds` goes on from the rounds that are there.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.bench import report
from libra_jax.command import entry
from libra_jax.records import Judgement, JudgingExample
from libra_jax.sampling import rejection
from libra_jax.stages import bench as benches
from libra_jax.stages import judge, reject, sft
from libra_jax.train import optimizer as optimizers
from libra_jax.train import run as training

_SET_HERE = {"reject": ("examples", "checkpoint", "template", "name"),
             "sft": ("checkpoint", "examples", "kept", "template"),
             "judge": ("examples", "checkpoint", "template", "name", "judge")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is repeated, and from where.

    Attributes:
      checkpoint: the judge to begin with; folder in Hugging Face format.
      examples: JSON lines of JudgingExample to train on, with labels.
      bench: JSON lines of JudgingExample that measure the judge after each round.
      template: a name in judging/prompt.py.
      rounds: how many.
      start: what a round fine-tunes. "last": the judge of the round before, on what this round keeps. "base":
        `checkpoint`, on what `reject.rejection` keeps of the judgements of all rounds so far, as if one had drawn them.
      reject, sft, judge: the stages' own configs, without what this stage sets: checkpoint, examples, kept, template
        and name. Round n draws with the seed `reject.sampling.seed` + n - 1 and trains with `sft.train.seed` + n - 1.
    """

    checkpoint: Annotated[str, configs.Checkpoint()] = ""
    examples: Annotated[str, configs.File(JudgingExample)] = ""
    bench: Annotated[str, configs.File(JudgingExample)] = ""
    template: str = "libra"
    rounds: int = 2
    start: Literal["last", "base"] = "last"
    reject: reject.Config = reject.Config()
    sft: sft.Config = sft.Config()
    judge: judge.Config = judge.Config()


def writes(config: Config) -> tuple[str, ...]:
    """The files and folders that `run` makes."""
    return (*(f"round_{number}/" for number in range(config.rounds + 1)), "bench/", "rounds.json")


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Runs the rounds in `workdir`; returns what rounds.json holds: a row a round, and the ids never right in any.

    ValueError for settings that cannot be; else as the stages.
    """
    check(config)
    examples, _ = runs.read(config.examples, JudgingExample, workdir)
    judges = [config.checkpoint]
    _measure(config, 0, judges[0], workdir)
    drawn: list[list[Judgement]] = []
    rows: list[dict[str, Any]] = []
    never_right: set[str] | None = None
    for number in range(1, config.rounds + 1):
        folder = workdir / f"round_{number}"
        _say(f"round {number} of {config.rounds}: {_name(number - 1)} judges {config.examples}")
        reject.run(_rejecting(config, number, judges[-1]), folder / "reject")
        counts = json.loads((folder / "reject/rejection.json").read_text(encoding="utf-8"))
        taught = list(records.read(folder / "reject/kept.jsonl", Judgement))
        if config.start == "base":
            drawn.append(list(records.read(folder / "reject/judgements.jsonl", Judgement)))
            taught = rejection.select(examples, rejection.pool(drawn), config.reject.rejection)[0]
        runs.write(folder / "kept.jsonl", taught)
        start = judges[-1] if config.start == "last" else config.checkpoint
        sft.run(_tuning(config, number, start, folder / "kept.jsonl"), folder / "sft")
        judges.append(str(folder / "sft/export"))
        _measure(config, number, judges[-1], workdir)
        never = set(counts["never_right"])
        never_right = never if never_right is None else never_right & never
        rows.append({"round": number, "judgements": counts["judgements"], "right": counts["right"],
                     "kept": counts["kept"], "trained_on": len(taught), "never_right": len(never),
                     "never_right_so_far": len(never_right)})
    measured = json.loads(runs.from_first(lambda: json.dumps(_bench(config, workdir)).encode()))
    result = {"start": config.start, "rounds": [{"round": 0} | measured[0]]
              + [row | found for row, found in zip(rows, measured[1:], strict=True)],
              "never_right": sorted(never_right or ())}
    if runs.is_first():
        records.write_json(workdir / "rounds.json", result)
        print(report.to_text(table(result)))
    return result


def check(config: Config) -> None:
    """ValueError for a path that is missing, no rounds, a field of a stage that is set here, or one that cannot be."""
    runs.need(config, "checkpoint", "examples", "bench")
    if config.rounds < 1:
        raise ValueError(f"rounds={config.rounds}: expected at least 1")
    for stage, names in _SET_HERE.items():
        given = getattr(config, stage)
        for name in names:
            if getattr(given, name) != getattr(type(given)(), name):
                raise ValueError(f"--config.{stage}.{name}={getattr(given, name)!r}: this stage sets it itself, in "
                                 "each round; leave it out (--config.checkpoint, .examples, .bench and .template are "
                                 "those of all rounds)")
    # Before hours of judging: what SFT would refuse after them.
    training.check_rows(config.sft.batch_size, config.sft.train, "sft.batch_size")
    optimizers.make(config.sft.train.optimizer, config.sft.train.num_steps)
    reject.check(_rejecting(config, 1, config.checkpoint))


def table(result: dict[str, Any]) -> report.Table:
    """What rounds.json holds as a table, a row a round; row 0 is the judge that was given."""
    header = ("round", "right when judging", "kept", "trained on", "never right", "in any round", "accuracy",
              "gain, paired")
    rows = []
    for row in result["rounds"]:
        judged = ("", "", "", "", "") if not row["round"] else (
            f"{row['right'] / row['judgements']:.1%}", row["kept"], row["trained_on"], row["never_right"],
            row["never_right_so_far"])
        rows.append((row["round"], *judged, _percent(row["accuracy"], ""),
                     _percent(row["gain"], "+") if row["round"] else ""))
    return report.Table(title=f"Rounds, each from the {result['start']} judge", header=header, rows=tuple(rows),
                        note="Right when judging, and never right: of the judge of the row above on the examples to "
                             "train on. Accuracy: of the round's judge on the bench, mean of sources.")


def _rejecting(config: Config, number: int, checkpoint: str) -> reject.Config:
    drawn = config.reject.sampling
    return dataclasses.replace(config.reject, examples=config.examples, checkpoint=checkpoint,
                               template=config.template, name=_name(number - 1),
                               sampling=dataclasses.replace(drawn, seed=drawn.seed + number - 1))


def _tuning(config: Config, number: int, checkpoint: str, kept: pathlib.Path) -> sft.Config:
    train = config.sft.train
    return dataclasses.replace(config.sft, checkpoint=checkpoint, examples=config.examples, kept=str(kept),
                               template=config.template, train=dataclasses.replace(train, seed=train.seed + number - 1))


def _measure(config: Config, number: int, checkpoint: str, workdir: pathlib.Path) -> None:
    _say(f"{_name(number)} is measured")
    judge.run(dataclasses.replace(config.judge, examples=config.bench, checkpoint=checkpoint, name=_name(number),
                                  template=config.template), workdir / f"round_{number}/judge")


def _bench(config: Config, workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Writes the report of all judges; the accuracy of each, and its gain on the one before (None for the first)."""
    folders = [workdir / f"round_{number}" for number in range(config.rounds + 1)]
    numbers = benches.run(benches.Config(
        examples=config.bench, title="Rejection sampling in rounds",
        judgements=tuple(str(folder / "judge/judgements.jsonl") for folder in folders),
        metrics=tuple(str(folder / "sft/metrics.jsonl") for folder in folders[1:])), workdir / "bench")
    gains = {(each["first"], each["second"]): {name: each[name] for name in ("value", "low", "high")}
             for each in numbers["differences"]}
    return [{"accuracy": each["metrics"]["mean_of_sources"], "gain": gains.get((_name(number - 1), _name(number)))}
            for number, each in enumerate(numbers["judges"])]


def _name(number: int) -> str:
    return f"round {number}" if number else "base"


def _percent(estimate: dict[str, float | None], sign: str) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    interval = "" if low is None else f" ({low:{sign}.1%} to {high:{sign}.1%})"
    return f"{value:{sign}.1%}{interval}"


def _say(what: str) -> None:
    if runs.is_first():
        print(f"--- {what}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """`libra rounds`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=writes,
                      look=lambda config: judge.look(reject.judging(_rejecting(config, 1, config.checkpoint))))


if __name__ == "__main__":
    raise SystemExit(main())
