r"""The paper's tables and ablations on the miniature, seed by seed, and which of its claims hold there.

    libra paper --workdir=runs/paper
    libra paper --workdir=runs/paper --config=configs/paper/stages.py --config.seeds=0,1

A row (ROWS) says how a judge is made; a table (TABLES) sets rows side by side and asks whether a claim holds. Tables
share what they have in common, so any of them may be made first, alone, in the same workdir. Writes NAME.html and
NAME.json (the table's name, or "paper" for all) and for the correlation correlation.svg; a killed run goes on where it
stopped.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from libra_jax import records
from libra_jax.bench import claims, page, plots
from libra_jax.bench.claims import Claim, Part, Seed
from libra_jax.command import entry
from libra_jax.records import Judgement, JudgingExample, Problem, Rollout, VerifiedRollout
from libra_jax.stages import chain, rl, sft


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which tables, of which draws.

    Attributes:
      tables: names in TABLES; none for all.
      seeds: each is another draw of problems, samples and training order.
      sizes: of each seed's chain; its own `seed` is not used.
      shares: of the problems without answers, for the table "unlabelled".
    """

    tables: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    sizes: chain.Sizes = chain.Sizes()
    shares: tuple[float, ...] = (0.25, 0.5, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """How a judge is made.

    Attributes:
      step: what is done last; "" for nothing.
      start: the row whose judge the step starts from; "" for the miniature as it is shipped.
      thinking: whether it is measured with its thought.
      kept: what SFT learns: the "right" judgements that rejection sampling keeps, or "any" first parsed one.
      policies: whose responses SFT learns to judge; none for all.
      length: (length_expected, length_maximum) of RL's length term.
    """

    step: Literal["", "sft", "rl"] = ""
    start: str = ""
    thinking: bool = True
    kept: Literal["right", "any"] = "right"
    policies: tuple[str, ...] = ()
    length: tuple[int, int] = (56, chain.MAX_NEW_TOKENS)


NEVER = (10**6, 10**6)  # no thought is as long, so the length term is always 0
ROWS = {
    "base, no thought": Row(thinking=False),
    "base": Row(),
    "SFT": Row(step="sft"),
    "SFT on any judgement": Row(step="sft", kept="any"),
    "RL alone": Row(step="rl"),
    "SFT + RL": Row(step="rl", start="SFT"),
    "SFT + RL, no length term": Row(step="rl", start="SFT", length=NEVER),
    "SFT + RL, length 16 to 40": Row(step="rl", start="SFT", length=(16, 40)),
    **{f"SFT on {policy}": Row(step="sft", policies=(policy,)) for policy in chain.POLICIES},
}
TRAINED_ON = {policy: f"SFT on {policy}" for policy in chain.POLICIES}

Make = Callable[[Config, Sequence["Made"]], Part]


class Made:
    """What one seed's chain makes, each thing once; everything lies in `folder`."""

    def __init__(self, sizes: chain.Sizes, folder: pathlib.Path):
        self.sizes, self.folder = sizes, folder
        self.problems = chain.problems(sizes, folder)

    @functools.cached_property
    def sets(self) -> pathlib.Path:
        """The folder of train.jsonl and bench.jsonl."""
        chain.sets(self.sizes, self.problems["answered"], self.folder)
        return self.folder / "sets"

    @functools.cached_property
    def examples(self) -> list[JudgingExample]:
        """The bench."""
        return list(records.read(self.sets / "bench.jsonl", JudgingExample))

    @functools.cached_property
    def before(self) -> list[VerifiedRollout]:
        """Answers of the policy before it is improved."""
        return chain.policy_answers(self.sizes, self.problems["held_out"], chain.CHECKPOINT, self.folder / "before")

    def checkpoint(self, name: str) -> pathlib.Path:
        """The judge of a row, made with those that it starts from."""
        row, folder = ROWS[name], self.folder / "judges" / _path(name)
        if not row.step:
            return chain.CHECKPOINT
        start = self.checkpoint(row.start) if row.start else chain.CHECKPOINT
        if row.step == "rl":
            how = chain.rl_config(self.sizes, start, self.sets / "train.jsonl")
            expected, most = row.length
            grpo = dataclasses.replace(how.grpo, length_expected=expected, length_maximum=most)
            rl.run(dataclasses.replace(how, grpo=grpo), folder)
        else:
            examples, kept = self._taught(row, folder)
            sft.run(chain.sft_config(self.sizes, start, examples, kept), folder)
        return folder / "export"

    def _taught(self, row: Row, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
        """The files of examples and judgements that SFT learns from."""
        train, drawn = self.sets / "train.jsonl", self.folder / "reject"
        chain.kept(self.sizes, train, drawn)
        if row.kept == "right" and not row.policies:
            return train, drawn / "kept.jsonl"
        examples = [example for example in records.read(train, JudgingExample)
                    if not row.policies or example.policy in row.policies]
        kept = list(records.read(drawn / ("kept.jsonl" if row.kept == "right" else "judgements.jsonl"), Judgement))
        if row.kept == "any":  # as many an example as rejection sampling keeps, whatever they say
            first = {}
            for each in kept:
                if each.verdict != "unparsed":
                    first.setdefault(each.example_id, each)
            kept = list(first.values())
            examples = [dataclasses.replace(example, correct=None) for example in examples]
        mine = {example.id for example in examples}
        records.write(folder / "given/examples.jsonl", examples)
        records.write(folder / "given/kept.jsonl", [each for each in kept if each.example_id in mine])
        return folder / "given/examples.jsonl", folder / "given/kept.jsonl"

    def judgements(self, name: str) -> list[Judgement]:
        """A row's votes on the bench."""
        return chain.judgements(self.sizes, name, self.checkpoint(name), self.sets / "bench.jsonl",
                                self.folder / "bench" / _path(name), thinking=ROWS[name].thinking)

    def improved(self, name: str, share: float = 1.0) -> list[VerifiedRollout]:
        """Answers of the policy after DPO on pairs of a row's judge, on a share of the problems without answers."""
        rollouts = chain.unanswered(self.sizes, self.problems["unanswered"], self.folder / "rollouts")
        problems, folder = self.problems["unanswered"], self.folder / "downstream" / _path(name)
        if share < 1:
            folder = folder.with_name(f"{folder.name}_{share:g}")
            problems, rollouts = _share(problems, rollouts, share, folder)
        chain.taught(self.sizes, problems, rollouts, self.checkpoint(name), folder, thinking=ROWS[name].thinking)
        return chain.policy_answers(self.sizes, self.problems["held_out"], folder / "dpo/export", folder / "after")

    def seed(self, rows: Sequence[str]) -> Seed:
        """The bench and the votes of these rows."""
        return Seed(number=self.sizes.seed, examples=self.examples,
                    judgements={name: self.judgements(name) for name in rows})


def side_by_side(title: str, rows: Sequence[str], said: Sequence[Claim]) -> Make:
    """A table of judges on the bench, and its claims."""
    def make(config: Config, seeds: Sequence[Made]) -> Part:
        del config
        return claims.side_by_side(title, [made.seed(rows) for made in seeds], said)
    return make


def transfer(config: Config, seeds: Sequence[Made]) -> Part:
    """Judges trained on one policy's responses, on each policy's."""
    del config
    return claims.transfer("Trained on one policy, tested on others", TRAINED_ON,
                           [made.seed(list(TRAINED_ON.values())) for made in seeds])


def unlabelled(config: Config, seeds: Sequence[Made]) -> Part:
    """The policy's accuracy by the number of problems without answers that it learned from."""
    shares = sorted(config.shares)
    counts = [round(share * config.sizes.unanswered) for share in shares]
    answers = [{count: made.improved("SFT + RL", share) for count, share in zip(counts, shares, strict=True)}
               for made in seeds]
    return claims.unlabelled("More problems without answers", _asked(seeds), [made.before for made in seeds], answers)


def correlation(config: Config, seeds: Sequence[Made]) -> Part:
    """Each row's accuracy on the bench against what its pairs are worth to the policy."""
    del config
    answers = [{name: made.improved(name) for name in ROWS} for made in seeds]
    return claims.correlated("Accuracy on the bench and gain of the policy", [made.seed(list(ROWS)) for made in seeds],
                             _asked(seeds), [made.before for made in seeds], answers)


TABLES: Mapping[str, Make] = {
    "thinking": side_by_side("Thinking and not", ("base, no thought", "base"), [
        Claim(text="a judge that thinks is more accurate", source="the paper: 73.7-78.7 % against 55.1-69.1 %",
              first="base, no thought", second="base")]),
    "stages": side_by_side("SFT and RL", ("base", "SFT", "RL alone", "SFT + RL"), [
        Claim(text="SFT improves the judge", source="the paper", first="base", second="SFT"),
        Claim(text="RL improves it further", source="the paper", first="SFT", second="SFT + RL"),
        Claim(text="RL alone falls short of SFT, then RL", source="the paper", first="RL alone", second="SFT + RL")]),
    "rejection": side_by_side("Rejection sampling", ("base", "SFT on any judgement", "SFT"), [
        Claim(text="SFT on judgements that rejection sampling keeps beats SFT on any", source="the paper",
              first="SFT on any judgement", second="SFT")]),
    "length": side_by_side("The length term", ("SFT", "SFT + RL, no length term", "SFT + RL, length 16 to 40"), [
        Claim(text="the length term shortens thoughts", source="the paper, equation 4", metric="tokens", sign=-1,
              first="SFT + RL, no length term", second="SFT + RL, length 16 to 40"),
        Claim(text="the length term costs accuracy", source="asked by reviewers", sign=-1,
              first="SFT + RL, no length term", second="SFT + RL, length 16 to 40")]),
    "transfer": transfer,
    "unlabelled": unlabelled,
    "correlation": correlation,
}


def writes(config: Config) -> tuple[str, ...]:
    """The files and folders that `run` makes."""
    return (*(f"seed_{seed}/" for seed in config.seeds), f"{_stem(config)}.html", f"{_stem(config)}.json")


def _stem(config: Config) -> str:
    return config.tables[0] if len(config.tables) == 1 else "paper"


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Makes the tables in `workdir`; returns what NAME.json holds. ValueError for settings that cannot be."""
    check(config)
    workdir, start = pathlib.Path(workdir), time.monotonic()
    names = list(config.tables or TABLES)
    seeds = [Made(dataclasses.replace(config.sizes, seed=seed), workdir / f"seed_{seed}") for seed in config.seeds]
    parts = {}
    for number, name in enumerate(names):
        print(f"--- {number + 1} of {len(names)}, after {time.monotonic() - start:.0f} s: {name}", file=sys.stderr,
              flush=True)
        parts[name] = TABLES[name](config, seeds)
    found = {"seeds": list(config.seeds), "tables": {name: part.numbers() for name, part in parts.items()}}
    sections = [("", page.table(claims.decided(list(parts.values())), heading=False))]
    for name, part in parts.items():
        shown = "".join(page.table(table, heading=False) for table in part.tables)
        if part.points:
            image = plots.scatter(part.points, *part.axes)
            shown += page.curves(part.title, image)
            records.write_text(workdir / f"{name}.svg", plots.svg(image).decode())
        sections.append((part.title, shown))
    stem = _stem(config)
    records.write_json(workdir / f"{stem}.json", found)
    records.write_text(workdir / f"{stem}.html", page.assemble("The paper's claims in miniature", sections))
    print(claims.text(list(parts.values())))
    print(f"read {workdir / f'{stem}.html'}")
    return found


def check(config: Config) -> None:
    """ValueError for an unknown table, no or repeated seeds, a seed in `sizes`, or shares that cannot be."""
    for name in config.tables:
        if name not in TABLES:
            raise ValueError(f"tables={name!r}: expected some of {', '.join(TABLES)}")
    if not config.seeds or len(set(config.seeds)) < len(config.seeds) or min(config.seeds) < 0:
        raise ValueError(f"seeds={config.seeds}: expected different whole numbers from 0 on")
    if config.sizes.seed != chain.Sizes().seed:
        raise ValueError(f"sizes.seed={config.sizes.seed}: give --config.seeds={config.sizes.seed}")
    counts = [round(share * config.sizes.unanswered) for share in config.shares]
    if not counts or min(counts) < 1 or max(config.shares) > 1 or len(set(counts)) < len(counts):
        raise ValueError(f"shares={config.shares} of {config.sizes.unanswered} problems: expected different shares "
                         "above 0, up to 1, each of at least a problem")


def _asked(seeds: Sequence[Made]) -> list[list[Problem]]:
    return [list(records.read(made.problems["held_out"], Problem)) for made in seeds]


def _share(problems: pathlib.Path, rollouts: pathlib.Path, share: float, folder: pathlib.Path
           ) -> tuple[pathlib.Path, pathlib.Path]:
    """Files of the first problems and their responses."""
    every = list(records.read(problems, Problem))
    some = every[:round(share * len(every))]
    known = {problem.id for problem in some}
    records.write(folder / "given/problems.jsonl", some)
    records.write(folder / "given/rollouts.jsonl",
                  [each for each in records.read(rollouts, Rollout) if each.problem_id in known])
    return folder / "given/problems.jsonl", folder / "given/rollouts.jsonl"


def _path(name: str) -> str:
    return name.lower().replace(",", "").replace(" + ", "_").replace(" ", "_")


def main(argv: Sequence[str] | None = None) -> int:
    """`libra paper`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=writes)


if __name__ == "__main__":
    raise SystemExit(main())
