"""The whole method in miniature, on two CPU cores in minutes: from problems to a trained, measured judge and policy.

    libra demo --workdir=runs/demo

Policies of three strengths answer arithmetic problems; rules verify the answers; V2V makes judging sets for training
and for a held-out bench of other problems; the base judge is measured without and with thinking; rejection sampling,
SFT and GRPO improve it, measured after each; the trained judge orders responses to problems without answers, and DPO on
its pairs improves the policy. Prints one table and writes demo.json. A killed demo goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Sequence

from libra_jax import config as configs
from libra_jax import records
from libra_jax.bench import score
from libra_jax.judging.v2v import V2VConfig
from libra_jax.miniature import arithmetic
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import curate, downstream, dpo, judge, reject, rl, rollout, sft, verify
from libra_jax.train.optimizer import OptimizerConfig

CHECKPOINT = pathlib.Path(arithmetic.__file__).parent / "checkpoint"
POLICIES = {"careful": 0.7, "plain": 1.0, "hasty": 1.3}  # name: temperature at which the miniature answers
TEMPLATE = "miniature"
MAX_NEW_TOKENS = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of the demo.

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
    problems: int = 900
    samples: int = 2
    judgements: int = 4
    votes: int = 2
    unanswered: int = 300
    held_out: int = 500
    sft_steps: int = 30
    rl_steps: int = 20
    dpo_steps: int = 40


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Runs the chain in `workdir`, a folder for each stage; returns what demo.json holds."""
    start = time.monotonic()
    workdir = pathlib.Path(workdir)
    problems = _problems(config, workdir)
    say("policies answer, rules verify, V2V curates")
    verified = []
    for name, temperature in POLICIES.items():
        verified += _answers(problems["answered"], str(CHECKPOINT), name, temperature, config.samples, config.seed,
                             workdir / "policies" / name)
    records.write(workdir / "verified.jsonl", verified)
    sets = _folder(workdir / "sets")
    curate.run(curate.Config(problems=str(problems["answered"]), rollouts=str(workdir / "verified.jsonl"),
                             bench_fraction=0.5, v2v=V2VConfig(seed=config.seed)), sets)
    train, bench = str(sets / "train.jsonl"), str(sets / "bench.jsonl")
    table = {}
    table["base, no thought"] = _measure(config, str(CHECKPOINT), bench, workdir / "bench/unthinking", thinking=False)
    table["base"] = _measure(config, str(CHECKPOINT), bench, workdir / "bench/base")
    say("rejection sampling, SFT")
    reject.run(reject.Config(examples=train, checkpoint=str(CHECKPOINT), template=TEMPLATE,
                             sampling=_sampling(config.judgements, config.seed)), _folder(workdir / "reject"))
    sft.run(sft.Config(
        checkpoint=str(CHECKPOINT), examples=train, kept=str(workdir / "reject/kept.jsonl"), template=TEMPLATE,
        sequence_length=256, batch_size=16, train=_train(config, config.sft_steps, 3e-4)), _folder(workdir / "sft"))
    tuned = str(workdir / "sft/export")
    table["SFT"] = _measure(config, tuned, bench, workdir / "bench/sft")
    say("GRPO")
    rl.run(rl.Config(
        checkpoint=tuned, examples=train, template=TEMPLATE, groups=32, updates=2,
        sampling=_sampling(8, config.seed), grpo=rl.GrpoConfig(length_expected=56, length_maximum=MAX_NEW_TOKENS),
        train=_train(config, config.rl_steps, 5e-4)), _folder(workdir / "rl"))
    trained = str(workdir / "rl/export")
    table["SFT + RL"] = _measure(config, trained, bench, workdir / "bench/rl")
    policy = _downstream(config, workdir, problems, trained)
    result = {"seed": config.seed, "judges": {name: dataclasses.asdict(row) for name, row in table.items()},
              "policy": policy, "seconds": round(time.monotonic() - start)}
    (workdir / "demo.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(_show(table, policy, result["seconds"], workdir))
    return result


def _downstream(config: Config, workdir: pathlib.Path, problems: dict[str, pathlib.Path], trained: str) -> dict:
    """The judge orders responses to problems without answers; returns the policy's accuracy before and after DPO."""
    say("the judge orders responses to problems without answers; DPO")
    folder = workdir / "downstream"
    rollout.run(rollout.Config(problems=str(problems["unanswered"]), checkpoint=str(CHECKPOINT), policy="plain",
                               template=TEMPLATE, sampling=_sampling(8, config.seed + 1)), _folder(folder / "rollouts"))
    judging = judge.Config(checkpoint=trained, template=TEMPLATE, sampling=_sampling(2, config.seed + 2))
    downstream.run(downstream.Config(problems=str(problems["unanswered"]), judge=judging,
                                     rollouts=str(folder / "rollouts/rollouts.jsonl")), _folder(folder / "pairs"))
    dpo.run(dpo.Config(checkpoint=str(CHECKPOINT), pairs=str(folder / "pairs/pairs.jsonl"), template=TEMPLATE,
                       sequence_length=128, batch_size=32, train=_train(config, config.dpo_steps, 2e-4)),
            _folder(folder / "dpo"))
    shares = {}
    for when, checkpoint in (("before", str(CHECKPOINT)), ("after", str(folder / "dpo/export"))):
        answers = _answers(problems["held_out"], checkpoint, when, 1.0, 2, config.seed + 3, folder / when)
        shares[when] = sum(answer.correct is True for answer in answers) / len(answers)
    return shares


def _problems(config: Config, workdir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Three files of disjoint problems; those of "unanswered" have no answers."""
    sizes = {"answered": config.problems, "unanswered": config.unanswered, "held_out": config.held_out}
    files, seen = {}, set()
    for place, (name, count) in enumerate(sizes.items()):
        fresh: list[Problem] = []
        stream = arithmetic.problems(config.seed * len(sizes) + place, 100 * count)
        while len(fresh) < count:
            problem = next(stream)
            if problem.question not in seen:
                seen.add(problem.question)
                fresh.append(dataclasses.replace(problem, answer=None) if name == "unanswered" else problem)
        files[name] = workdir / f"{name}.jsonl"
        records.write(files[name], fresh)
    return files


def _answers(problems: pathlib.Path, checkpoint: str, name: str, temperature: float, samples: int, seed: int,
             folder: pathlib.Path) -> list[VerifiedRollout]:
    """Responses of one policy, verified."""
    rollout.run(rollout.Config(problems=str(problems), checkpoint=checkpoint, policy=name, template=TEMPLATE,
                               sampling=_sampling(samples, seed, temperature)), _folder(folder))
    verify.run(verify.Config(problems=str(problems), rollouts=str(folder / "rollouts.jsonl")), folder)
    return list(records.read(folder / "verified.jsonl", VerifiedRollout))


def _measure(config: Config, checkpoint: str, bench: str, folder: pathlib.Path, *,
             thinking: bool = True) -> score.Evaluation:
    judge.run(judge.Config(examples=bench, checkpoint=checkpoint, template=TEMPLATE, thinking=thinking,
                           sampling=_sampling(config.votes, config.seed)), _folder(folder))
    return score.evaluate(folder.name, list(records.read(bench, JudgingExample)),
                          records.read(folder / "judgements.jsonl", Judgement))


def _sampling(samples: int, seed: int, temperature: float = 1.0) -> SamplingConfig:
    return SamplingConfig(max_new_tokens=MAX_NEW_TOKENS, num_samples=samples, seed=seed, temperature=temperature,
                          batch_size=256)


def _train(config: Config, num_steps: int, rate: float) -> sft.TrainConfig:
    return sft.TrainConfig(num_steps=num_steps, save_every=10, seed=config.seed,
                           mesh=sft.MeshConfig(fsdp=1),
                           optimizer=OptimizerConfig(learning_rate=rate, warmup_steps=min(3, num_steps)))


def _folder(path: pathlib.Path) -> pathlib.Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def say(what: str) -> None:
    """A heading on stderr between the stages' own progress lines."""
    print(f"--- {what}", file=sys.stderr, flush=True)


def _show(table: dict[str, score.Evaluation], policy: dict, seconds: int, workdir: pathlib.Path) -> str:
    lines = [f"{'judge':18}{'accuracy':>10}{'95 % interval':>18}{'balanced':>10}{'unparsed':>10}{'tokens':>8}"]
    for name, row in table.items():
        accuracy = row.metrics["accuracy"]
        interval = f"{accuracy.low:.1%} - {accuracy.high:.1%}"
        lines.append(f"{name:18}{accuracy.value:>10.1%}{interval:>18}"
                     f"{row.metrics['balanced_accuracy'].value:>10.1%}{row.metrics['unparsed'].value:>10.1%}"
                     f"{row.mean_tokens:>8.1f}")
    lines.append(f"policy, right answers to held-out problems: {policy['before']:.1%} before DPO on the judge's pairs, "
                 f"{policy['after']:.1%} after")
    lines.append(f"{seconds} s; everything lies in {workdir}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """`libra demo`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
