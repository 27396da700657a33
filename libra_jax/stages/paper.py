r"""The paper's tables and ablations on the miniature, seed by seed, and which of its claims hold there.

    libra paper --workdir=runs/paper
    libra paper --workdir=runs/paper --config=configs/paper/stages.py --config.seeds=0,1

A row (ROWS in rows.py) says how a judge is made; a table (TABLES) sets rows side by side and asks whether a claim
holds. Tables share what they have in common, so any of them may be made first, alone, in the same workdir. Writes
NAME.html and NAME.json (the table's name, or "paper" for all) and for the correlation correlation.svg; a killed run
goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from libra_jax import config as configs
from libra_jax import records
from libra_jax.bench import claims, page, plots
from libra_jax.bench.claims import Claim, Part
from libra_jax.records import Problem
from libra_jax.stages import chain
from libra_jax.stages.rows import ROWS, TRAINED_ON, Made


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


Make = Callable[[Config, Sequence[Made]], Part]


def side_by_side(title: str, rows: Sequence[str], said: Sequence[Claim], *, solving: bool = False) -> Make:
    """A table of judges on the bench (with `solving` also on problems of their own), and its claims."""
    def make(config: Config, seeds: Sequence[Made]) -> Part:
        del config
        return claims.side_by_side(title, [made.seed(rows, solving=solving) for made in seeds], said)
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
    "thinking": side_by_side("Thinking and not", ("base, no thought", "base", "SFT, no thought", "SFT"), [
        Claim(text="a judge that thinks is more accurate", source="the paper: 73.7-78.7 % against 55.1-69.1 %",
              first="base, no thought", second="base"),
        Claim(text="so it is where each is fine-tuned for it", source="the paper", first="SFT, no thought",
              second="SFT")]),
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
    "non_judging": side_by_side("Data that is not judging", (
        "base", "SFT", "SFT, other data too", "SFT + RL", "SFT + RL, other data too"), [
        Claim(text="SFT on judgements alone forgets how to solve", source="asked by reviewers", metric="solving",
              sign=-1, first="base", second="SFT"),
        Claim(text="SFT and RL on judging alone forget how to solve", source="asked by reviewers", metric="solving",
              sign=-1, first="base", second="SFT + RL"),
        Claim(text="with other data too the judge solves more", source="asked by reviewers", metric="solving",
              first="SFT + RL", second="SFT + RL, other data too"),
        Claim(text="other data costs accuracy in judging", source="asked by reviewers", sign=-1, first="SFT + RL",
              second="SFT + RL, other data too")], solving=True),
    "transfer": transfer,
    "unlabelled": unlabelled,
    "correlation": correlation,
}


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
    stem = names[0] if len(names) == 1 else "paper"
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


def main(argv: Sequence[str] | None = None) -> int:
    """`libra paper`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
