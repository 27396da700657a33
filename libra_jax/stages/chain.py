"""The steps of the method on the miniature, as `libra demo` and `libra paper` put them together.

Policies of three strengths answer arithmetic problems, rules verify the answers, V2V makes judging sets, judges are
trained and measured, and a policy learns from pairs that a judge ordered. Each function runs stages in a folder of its
own, so that what was made is not made again.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal

from libra_jax import records
from libra_jax.bench import policies
from libra_jax.judging.v2v import V2VConfig
from libra_jax.miniature import arithmetic
from libra_jax.records import Judgement, Problem, VerifiedRollout
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.sampling.rejection import RejectionConfig
from libra_jax.stages import curate, downstream, dpo, judge, reject, rl, rollout, sft, verify
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

CHECKPOINT = pathlib.Path(arithmetic.__file__).parent / "checkpoint"
POLICIES = {"careful": 0.7, "plain": 1.0, "hasty": 1.2}  # name: temperature at which the miniature answers
TEMPLATE = "miniature"
MAX_NEW_TOKENS = 64
# A thought of the miniature is short enough that samples repeat it; without that evidence it learns lucky ones too.
REJECTION = RejectionConfig(prefer="agreed", max_per_example=1, easy_fraction=1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the chain.

    Attributes:
      seed: of the problems, the samples and the order of training.
      problems: how many problems with answers, for training and bench together; half go to the bench.
      samples: responses of each policy to each of them.
      judgements: drawn for each training example, for rejection sampling.
      votes: judgements of each bench example.
      unanswered: how many problems without answers the downstream policy learns from.
      held_out: how many problems measure that policy before and after.
      sft_steps, rl_steps, dpo_steps: steps of training.
    """

    seed: int = 0
    problems: int = 2600
    samples: int = 2
    judgements: int = 4
    votes: int = 2
    unanswered: int = 300
    held_out: int = 500
    sft_steps: int = 40
    rl_steps: int = 20
    dpo_steps: int = 40


def problems(sizes: Sizes, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Three files of disjoint problems: "answered", "unanswered", which have no answers, and "held_out"."""
    wanted = {"answered": sizes.problems, "unanswered": sizes.unanswered, "held_out": sizes.held_out}
    files, seen = {}, set()
    for place, (name, count) in enumerate(wanted.items()):
        fresh: list[Problem] = []
        stream = arithmetic.problems(sizes.seed * len(wanted) + place, 100 * count)
        while len(fresh) < count:
            problem = next(stream)
            if problem.question not in seen:
                seen.add(problem.question)
                fresh.append(dataclasses.replace(problem, answer=None) if name == "unanswered" else problem)
        files[name] = folder / f"{name}.jsonl"
        records.write(files[name], fresh)
    return files


def sets(sizes: Sizes, answered: pathlib.Path, folder: pathlib.Path) -> tuple[list[VerifiedRollout], dict]:
    """`folder`/sets/train.jsonl and bench.jsonl from all policies' answers; these, and the card."""
    verified = []
    for name, temperature in POLICIES.items():
        verified += answers(answered, CHECKPOINT, name, temperature, sizes.samples, sizes.seed,
                            folder / "policies" / name)
    records.write(folder / "verified.jsonl", verified)
    card = curate.run(curate.Config(problems=(str(answered),), rollouts=(str(folder / "verified.jsonl"),),
                                    bench_fraction=0.5,  # a sum that comes twice is drawn twice, as others are
                                    v2v=V2VConfig(seed=sizes.seed, near_questions=True)), folder / "sets")
    return verified, card


def answers(problems: pathlib.Path, checkpoint: pathlib.Path, name: str, temperature: float, samples: int, seed: int,
            folder: pathlib.Path) -> list[VerifiedRollout]:
    """Responses of one policy, verified."""
    rollout.run(rollout.Config(problems=str(problems), checkpoint=str(checkpoint), policy=name, template=TEMPLATE,
                               sampling=sampling(samples, seed, temperature)), folder)
    verify.run(verify.Config(problems=str(problems), rollouts=str(folder / "rollouts.jsonl")), folder)
    return list(records.read(folder / "verified.jsonl", VerifiedRollout))


def judgements(sizes: Sizes, name: str, checkpoint: pathlib.Path, bench: pathlib.Path, folder: pathlib.Path, *,
               thinking: bool = True) -> list[Judgement]:
    """A judge's votes on the bench."""
    judge.run(judge.Config(examples=str(bench), checkpoint=str(checkpoint), template=TEMPLATE, thinking=thinking,
                           name=name, sampling=sampling(sizes.votes, sizes.seed)), folder)
    return list(records.read(folder / "judgements.jsonl", Judgement))


def kept(sizes: Sizes, train: pathlib.Path, folder: pathlib.Path) -> dict:
    """Judgements of the base judge worth training on, `folder`/kept.jsonl; what `libra reject` says."""
    return reject.run(reject.Config(examples=str(train), checkpoint=str(CHECKPOINT), template=TEMPLATE,
                                    rejection=REJECTION, sampling=sampling(sizes.judgements, sizes.seed)), folder)


def sft_config(sizes: Sizes, checkpoint: pathlib.Path | str, examples: pathlib.Path | str, kept: pathlib.Path | str
               ) -> sft.Config:
    """The SFT of the miniature."""
    return sft.Config(checkpoint=str(checkpoint), examples=str(examples), kept=str(kept), template=TEMPLATE,
                      sequence_length=256, batch_size=16,
                      train=train_config(sizes, sizes.sft_steps, 1e-3, schedule="cosine"))


def rl_config(sizes: Sizes, checkpoint: pathlib.Path | str, examples: pathlib.Path | str) -> rl.Config:
    """The RL of the miniature."""
    return rl.Config(checkpoint=str(checkpoint), examples=str(examples), template=TEMPLATE, groups=32, redraws=1,
                     updates=2, sampling=sampling(8, sizes.seed),
                     grpo=rl.GrpoConfig(length_expected=56, length_maximum=MAX_NEW_TOKENS),
                     train=train_config(sizes, sizes.rl_steps, 3e-4, accumulation=2))


def unanswered(sizes: Sizes, problems: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """The file of the plain policy's responses to problems without answers."""
    rollout.run(rollout.Config(problems=str(problems), checkpoint=str(CHECKPOINT), policy="plain", template=TEMPLATE,
                               sampling=sampling(8, sizes.seed + 1)), folder)
    return folder / "rollouts.jsonl"


def taught(sizes: Sizes, problems: pathlib.Path, rollouts: pathlib.Path, trained: pathlib.Path, folder: pathlib.Path, *,
           thinking: bool = True) -> dict:
    """DPO of the plain policy on pairs that the judge `trained` ordered, `folder`/dpo; what `libra downstream` says."""
    judging = judge.Config(checkpoint=str(trained), template=TEMPLATE, thinking=thinking,
                           sampling=sampling(2, sizes.seed + 2))
    ordered = downstream.run(downstream.Config(problems=str(problems), judge=judging, rollouts=str(rollouts)),
                             folder / "pairs")
    dpo.run(dpo.Config(checkpoint=str(CHECKPOINT), pairs=str(folder / "pairs/pairs.jsonl"), template=TEMPLATE,
                       sequence_length=128, batch_size=32, beta=0.5,
                       train=train_config(sizes, sizes.dpo_steps, 1e-4, schedule="cosine")), folder / "dpo")
    return ordered


def policy_answers(sizes: Sizes, held_out: pathlib.Path, checkpoint: pathlib.Path, folder: pathlib.Path
                   ) -> list[VerifiedRollout]:
    """Two answers of a policy to each held-out problem, named as the folder; the same draws for every policy."""
    return answers(held_out, checkpoint, folder.name, 1.0, 2, sizes.seed + 3, folder)


def gained(held_out: pathlib.Path, before: Sequence[VerifiedRollout], after: Sequence[VerifiedRollout]) -> dict:
    """Accuracy "before" and "after" and the paired "gain", estimates as dicts."""
    asked = list(records.read(held_out, Problem))
    estimates = {"before": policies.accuracy(asked, before), "after": policies.accuracy(asked, after),
                 "gain": policies.difference(asked, before, after)}
    return {name: dataclasses.asdict(estimate) for name, estimate in estimates.items()}


def sampling(samples: int, seed: int, temperature: float = 1.0) -> SamplingConfig:
    """How the miniature draws."""
    return SamplingConfig(max_new_tokens=MAX_NEW_TOKENS, num_samples=samples, seed=seed, temperature=temperature,
                          batch_size=256)


def train_config(sizes: Sizes, num_steps: int, rate: float, *,
                 schedule: Literal["constant", "cosine"] = "constant", accumulation: int = 1
                 ) -> training.TrainConfig:
    """How the miniature trains."""
    optimizer = OptimizerConfig(learning_rate=rate, warmup_steps=min(3, num_steps), schedule=schedule)
    return training.TrainConfig(num_steps=num_steps, save_every=10, seed=sizes.seed, accumulation=accumulation,
                                optimizer=optimizer)
