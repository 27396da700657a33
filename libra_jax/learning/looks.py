"""What a person can see of a run while it goes on: a held-out slice and a picture of the curves (and thoughts.py).

All of it at the same steps: before the first, after every `watch.every` and after the last (thoughts from the first
step on). Nothing of it changes what is trained, but that `watch.patience` may end the run.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence, Set

import numpy as np

from libra_jax import records, runs
from libra_jax.bench import browser, plots
from libra_jax.judges.model import ModelJudge, stable_id
from libra_jax.learning.seen import Seen, Watch
from libra_jax.records import JudgingExample
from libra_jax.sampling import engine
from libra_jax.train import metrics, progress, watching

ACCURACY = "held_out_accuracy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Attributes:
    every: steps between two looks; 0: looks at the ends alone where there is a held-out file, else none.
    num_examples: of the held-out file, chosen by the hashes of their ids; every look judges the same ones.
    num_samples: judgements of each, drawn as those of the training are.
    seed: of these judgements, at every look.
    patience: so many looks in a row without a better held_out_accuracy end the run; 0: never.
    thoughts: groups on each page of thoughts; 0: no pages.
    """

    every: int = 0
    num_examples: int = 256
    num_samples: int = 1
    seed: int = 0
    patience: int = 0
    thoughts: int = 0

    def __post_init__(self):
        if min(self.every, self.patience, self.thoughts) < 0 or min(self.num_examples, self.num_samples) < 1:
            raise ValueError(f"watch={self}: expected num_examples and num_samples of at least 1, the others not "
                             "negative")


def slice_of(path: str, how: WatchConfig, trained: Set[str], reader: ModelJudge, workdir: pathlib.Path, *,
             longest: int) -> list[JudgingExample]:
    """The examples of the file `path`, the config's `held_out`, that every look judges; none where it is "".

    Their prompts are at most `longest` tokens; `trained` are the ids of the problems that are trained on.

    ValueError for a problem that is trained on, an example without label, or where no prompt is short enough.
    """
    if not path:
        if how.patience:
            raise ValueError(f"watch.patience={how.patience} without held_out: there is no held_out_accuracy to wait "
                             "for; name a file of judging examples of other problems, or set it to 0")
        return []
    found, _ = runs.read(path, JudgingExample, workdir)
    shared = sorted(trained & {example.problem_id for example in found})
    if shared:
        raise ValueError(f"{path}: {len(shared)} of its problems are trained on too, such as "
                         f"{shared[0]!r}; hold out examples of other problems (`libra curate` divides by problem)")
    for example in found:
        if example.correct is None:
            raise ValueError(f"{path}: example {example.id!r} has no label; accuracy needs one")
    fitting = [example for example in found if len(reader.prompt(example)) <= longest]
    if not fitting:
        raise ValueError(f"{path}: no prompt of at most {longest} tokens; raise the length that the config "
                         "allows, or give shorter ones")
    return browser.choose(fitting, how.num_examples)


def watch(how: WatchConfig, sampling: engine.SamplingConfig, chosen: Sequence[JudgingExample], reader: ModelJudge,
          workdir: pathlib.Path) -> Watch | None:
    """Judges the slice at each look, draws the curves, and says when it is enough; None where nothing is watched.

    Judgements are drawn as `sampling` says, with the number and the seed of `how`.
    """
    if not chosen and not how.every:
        return None
    prompts = [reader.prompt(example) for example in chosen]
    ids = [stable_id(example.id) for example in chosen]
    drawn = dataclasses.replace(sampling, num_samples=how.num_samples, seed=how.seed)

    def look(seen: Seen) -> Mapping[str, float]:
        found = {}
        if chosen:
            samples = seen.sample(prompts, drawn, ids=ids)
            verdicts = [reader.read(sample.tokens)[1] for sample in samples]
            found = score(chosen, [sample.prompt for sample in samples], verdicts,
                          [len(sample.tokens) for sample in samples])
        draw(workdir, [*seen.rows, metrics.row(seen.step, found)])
        if why := exhausted(seen.rows, seen.step, found, how.patience):
            raise watching.Enough(why, found)
        return found

    return look


def score(examples: Sequence[JudgingExample], owners: Sequence[int], verdicts: Sequence[str], lengths: Sequence[int]
          ) -> dict[str, float]:
    """Accuracy of the judgements (unparsed ones are not right), and what goes with it.

    `owners` is the index of each judgement's example. The standard error takes problems for what was drawn, since
    judgements on one problem are not independent: with r_p the sum of (right - accuracy) over those on problem p of P,
    sqrt(P / (P - 1) * sum of r_p^2) / number of judgements; left out of one problem. Worked: two problems with as many
    judgements, the one all right and the other all wrong: 0.5 with 0.5.
    """
    right = np.array([verdict == ("correct" if examples[owner].correct else "incorrect")
                      for owner, verdict in zip(owners, verdicts, strict=True)], float)
    found = {ACCURACY: float(right.mean())}
    sums: dict[str, float] = collections.defaultdict(float)
    for owner, value in zip(owners, right - right.mean(), strict=True):
        sums[examples[owner].problem_id] += value
    if len(sums) > 1:
        spread = sum(value**2 for value in sums.values()) * len(sums) / (len(sums) - 1)
        found[ACCURACY + progress.ERROR] = math.sqrt(spread) / len(right)
    return found | {"held_out_unparsed": list(verdicts).count("unparsed") / len(verdicts),
                    "held_out_tokens": float(np.mean(lengths))}


def exhausted(rows: watching.Rows, step: int, found: Mapping[str, float], patience: int) -> str:
    """Why the run shall end, or "": `patience` looks in a row, the one of `step` the last, gave no better accuracy."""
    if not patience:
        return ""
    looks = [(row["step"], row[ACCURACY]) for row in rows if ACCURACY in row] + [(step, found[ACCURACY])]
    best = max(range(len(looks)), key=lambda place: (looks[place][1], -place))
    if len(looks) - 1 - best < patience:
        return ""
    return (f"held_out_accuracy was best after step {looks[best][0]} ({looks[best][1]:.1%}) and not better in "
            f"{patience} looks since (watch.patience={patience}); the export has the last parameters")


def draw(workdir: pathlib.Path, rows: watching.Rows, label: str = "run") -> None:
    """Writes curves.svg: a panel for each metric that a person looks at, the held-out ones first."""
    if not runs.is_first():
        return
    names = dict.fromkeys(name for row in rows for name in row)
    held_out = [name for name in names if name.startswith("held_out") and not name.endswith(progress.ERROR)]
    images = plots.curves({f"{label}/{name}": [(row["step"], row[name]) for row in rows if name in row]
                           for name in [*held_out, *progress.ordered(names)]})
    if images:
        records.write_text(workdir / "curves.svg", plots.svg(images[label]).decode("utf-8"))
