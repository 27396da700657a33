"""How the judges of the paper's tables are made on the miniature and measured."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Literal

from libra_jax import records
from libra_jax.bench.claims import Seed
from libra_jax.data import judgements
from libra_jax.records import Judgement, JudgingExample, Problem, Rollout, VerifiedRollout
from libra_jax.stages import chain, rl, sft


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """How a judge is made.

    Attributes:
      step: what is done last; "" for nothing.
      start: the row whose judge the step starts from; "" for the miniature as it is shipped.
      thinking: whether it is measured with its thought.
      learn: what SFT learns: the judgements "kept" by rejection sampling, "any" first parsed one, or the "labels" of
        all examples without a thought.
      policies: whose responses SFT learns to judge; none for all.
      length: (length_expected, length_maximum) of RL's length term.
      other: the share of data that is not judging: solutions among SFT's conversations, problems to solve among RL's
        groups. The steps and their sizes stay, so that judging gets so much less.
    """

    step: Literal["", "sft", "rl"] = ""
    start: str = ""
    thinking: bool = True
    learn: judgements.Learn = "kept"
    policies: tuple[str, ...] = ()
    length: tuple[int, int] = (56, chain.MAX_NEW_TOKENS)
    other: float = 0.0


NEVER = (10**6, 10**6)  # no thought is as long, so the length term is always 0
ROWS = {
    "base, no thought": Row(thinking=False),
    "base": Row(),
    "SFT": Row(step="sft"),
    "SFT, no thought": Row(step="sft", learn="labels", thinking=False),
    "SFT on any judgement": Row(step="sft", learn="any"),
    "SFT, other data too": Row(step="sft", other=0.2),
    "RL alone": Row(step="rl"),
    "SFT + RL": Row(step="rl", start="SFT"),
    "SFT + RL, no length term": Row(step="rl", start="SFT", length=NEVER),
    "SFT + RL, length 16 to 40": Row(step="rl", start="SFT", length=(16, 40)),
    "SFT + RL, other data too": Row(step="rl", start="SFT, other data too", other=0.2),
    **{f"SFT on {policy}": Row(step="sft", policies=(policy,)) for policy in chain.POLICIES},
}
TRAINED_ON = {policy: f"SFT on {policy}" for policy in chain.POLICIES}


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
            if row.other:
                how = dataclasses.replace(how, problems=str(self.solved[0]), weights=(1 - row.other, 0.0, row.other))
            rl.run(dataclasses.replace(how, grpo=grpo), folder)
        else:
            train, drawn = self.sets / "train.jsonl", self.folder / "reject"
            chain.kept(self.sizes, train, drawn)
            files = {"kept": str(drawn / "kept.jsonl"), "any": str(drawn / "judgements.jsonl"), "labels": ""}
            how = dataclasses.replace(chain.sft_config(self.sizes, start, train, files[row.learn]), learn=row.learn,
                                      policies=row.policies)
            if row.other:
                how = dataclasses.replace(how, problems=str(self.solved[0]), solutions=str(self.solved[1]),
                                          solution_share=row.other)
            sft.run(how, folder)
        return folder / "export"

    @functools.cached_property
    def solved(self) -> tuple[pathlib.Path, pathlib.Path]:
        """The files of the problems that train.jsonl is about, and of all policies' answers to them."""
        about = {example.problem_id for example in records.read(self.sets / "train.jsonl", JudgingExample)}
        files = self.folder / "solved/problems.jsonl", self.folder / "solved/solutions.jsonl"
        records.write(files[0], [each for each in records.read(self.problems["answered"], Problem) if each.id in about])
        records.write(files[1], [each for each in records.read(self.folder / "verified.jsonl", VerifiedRollout)
                                 if each.problem_id in about])
        return files

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

    def seed(self, rows: Sequence[str], *, solving: bool = False) -> Seed:
        """The bench and the votes of these rows; with `solving` also their own answers to the held-out problems."""
        held_out = self.problems["held_out"]
        answers = {name: chain.policy_answers(self.sizes, held_out, self.checkpoint(name),
                                              self.folder / "solving" / _path(name)) for name in rows if solving}
        return Seed(number=self.sizes.seed, examples=self.examples,
                    judgements={name: self.judgements(name) for name in rows},
                    asked=list(records.read(held_out, Problem)) if solving else (), answers=answers)


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
