"""The whole method in miniature, on two CPU cores in minutes: from problems to a trained, measured judge and policy.

    libra demo --workdir=runs/demo

Policies of three strengths answer arithmetic problems; rules verify the answers; V2V makes judging sets for training
and for a held-out bench of other problems; the base judge is measured without and with thinking; rejection sampling,
SFT and GRPO improve it, measured after each; the trained judge orders responses to problems without answers, and DPO on
its pairs improves the policy. Prints one table and writes report.html (with the curves), report.json, judges.svg and
demo.json. A killed demo goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from libra_jax import config as configs
from libra_jax import records
from libra_jax.bench import plots, policies, report, score
from libra_jax.bench.significance import Estimate
from libra_jax.judging.v2v import V2VConfig
from libra_jax.miniature import arithmetic
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.sampling.rejection import RejectionConfig
from libra_jax.stages import bench as benches
from libra_jax.stages import curate, downstream, dpo, judge, reject, rl, rollout, sft, verify
from libra_jax.train import metrics
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

CHECKPOINT = pathlib.Path(arithmetic.__file__).parent / "checkpoint"
POLICIES = {"careful": 0.7, "plain": 1.0, "hasty": 1.2}  # name: temperature at which the miniature answers
TEMPLATE = "miniature"
MAX_NEW_TOKENS = 64
NUM_PARTS = 5
# A thought of the miniature is short enough that samples repeat it; without that evidence it learns lucky ones too.
REJECTION = RejectionConfig(prefer="agreed", max_per_example=1, easy_fraction=1.0)


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
    problems: int = 2600
    samples: int = 2
    judgements: int = 4
    votes: int = 2
    unanswered: int = 300
    held_out: int = 500
    sft_steps: int = 40
    rl_steps: int = 20
    dpo_steps: int = 40


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Runs the chain in `workdir`, a folder for each stage; returns what demo.json holds."""
    start = time.monotonic()
    workdir = pathlib.Path(workdir)
    problems = _problems(config, workdir)
    say(1, "policies answer, rules verify, V2V curates", start)
    verified = []
    for name, temperature in POLICIES.items():
        verified += _answers(problems["answered"], str(CHECKPOINT), name, temperature, config.samples, config.seed,
                             workdir / "policies" / name)
    records.write(workdir / "verified.jsonl", verified)
    card = curate.run(curate.Config(problems=(str(problems["answered"]),), rollouts=(str(workdir / "verified.jsonl"),),
                                    bench_fraction=0.5,  # a sum that comes twice is drawn twice, as others are
                                    v2v=V2VConfig(seed=config.seed, near_questions=True)), workdir / "sets")
    train, bench = str(workdir / "sets/train.jsonl"), str(workdir / "sets/bench.jsonl")
    say(2, "the base judge is measured", start)
    judged = {"base, no thought": _judge(config, "base, no thought", CHECKPOINT, bench, workdir / "bench/unthinking",
                                         thinking=False),
              "base": _judge(config, "base", CHECKPOINT, bench, workdir / "bench/base")}
    say(3, "rejection sampling, SFT", start)
    kept = reject.run(reject.Config(examples=train, checkpoint=str(CHECKPOINT), template=TEMPLATE, rejection=REJECTION,
                                    sampling=_sampling(config.judgements, config.seed)), workdir / "reject")
    sft.run(sft_config(config, str(CHECKPOINT), train, str(workdir / "reject/kept.jsonl")), workdir / "sft")
    judged["SFT"] = _judge(config, "SFT", workdir / "sft/export", bench, workdir / "bench/sft")
    say(4, "GRPO", start)
    rl.run(rl_config(config, str(workdir / "sft/export"), train), workdir / "rl")
    judged["SFT + RL"] = _judge(config, "SFT + RL", workdir / "rl/export", bench, workdir / "bench/rl")
    say(5, "the judge orders responses to problems without answers, DPO", start)
    policy, ordered = _downstream(config, workdir / "downstream", problems, workdir / "rl/export")
    counts = {"problems with answers": config.problems, "responses": len(verified),
              "undecided by the rules": sum(each.correct is None for each in verified),
              "judging examples to train on": card["train"]["examples"],
              "judging examples of the bench": card["bench"]["examples"],
              "judgements drawn for SFT": kept["judgements"], "judgements kept": kept["kept"],
              "responses to problems without answers": ordered["responses"], "preference pairs": ordered["pairs"]}
    seconds = round(time.monotonic() - start)
    result = {"seed": config.seed, "seconds": seconds, "counts": counts, "policy": policy}
    result |= _write(config, workdir, bench, judged, policy, counts)
    records.write_json(workdir / "demo.json", result)
    print(_show(result))
    print(f"{seconds} s; read {workdir / 'report.html'}; everything lies in {workdir}")
    return result


def sft_config(config: Config, checkpoint: str, examples: str, kept: str) -> sft.Config:
    """The SFT of the demo."""
    return sft.Config(checkpoint=checkpoint, examples=examples, kept=kept, template=TEMPLATE, sequence_length=256,
                      batch_size=16, train=_train(config, config.sft_steps, 1e-3, schedule="cosine"))


def rl_config(config: Config, checkpoint: str, examples: str) -> rl.Config:
    """The RL of the demo."""
    return rl.Config(checkpoint=checkpoint, examples=examples, template=TEMPLATE, groups=32, redraws=1, updates=2,
                     sampling=_sampling(8, config.seed),
                     grpo=rl.GrpoConfig(length_expected=56, length_maximum=MAX_NEW_TOKENS),
                     train=_train(config, config.rl_steps, 3e-4, accumulation=2))


def _downstream(config: Config, folder: pathlib.Path, problems: dict[str, pathlib.Path], trained: pathlib.Path
                ) -> tuple[dict[str, dict], dict]:
    """The policy before and after DPO on the judge's pairs: estimates as dicts, and what the downstream stage says."""
    rollout.run(rollout.Config(problems=str(problems["unanswered"]), checkpoint=str(CHECKPOINT), policy="plain",
                               template=TEMPLATE, sampling=_sampling(8, config.seed + 1)), folder / "rollouts")
    judging = judge.Config(checkpoint=str(trained), template=TEMPLATE, sampling=_sampling(2, config.seed + 2))
    ordered = downstream.run(downstream.Config(problems=str(problems["unanswered"]), judge=judging,
                                               rollouts=str(folder / "rollouts/rollouts.jsonl")), folder / "pairs")
    dpo.run(dpo.Config(checkpoint=str(CHECKPOINT), pairs=str(folder / "pairs/pairs.jsonl"), template=TEMPLATE,
                       sequence_length=128, batch_size=32, beta=0.5,
                       train=_train(config, config.dpo_steps, 1e-4, schedule="cosine")), folder / "dpo")
    held_out = list(records.read(problems["held_out"], Problem))
    before, after = (_answers(problems["held_out"], str(checkpoint), name, 1.0, 2, config.seed + 3, folder / name)
                     for name, checkpoint in (("before", CHECKPOINT), ("after", folder / "dpo/export")))
    estimates = {"before": policies.accuracy(held_out, before), "after": policies.accuracy(held_out, after),
                 "gain": policies.difference(held_out, before, after)}
    return {name: dataclasses.asdict(estimate) for name, estimate in estimates.items()}, ordered


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
                               sampling=_sampling(samples, seed, temperature)), folder)
    verify.run(verify.Config(problems=str(problems), rollouts=str(folder / "rollouts.jsonl")), folder)
    return list(records.read(folder / "verified.jsonl", VerifiedRollout))


def _judge(config: Config, name: str, checkpoint: pathlib.Path, bench: str, folder: pathlib.Path, *,
           thinking: bool = True) -> list[Judgement]:
    judge.run(judge.Config(examples=bench, checkpoint=str(checkpoint), template=TEMPLATE, thinking=thinking, name=name,
                           sampling=_sampling(config.votes, config.seed)), folder)
    return list(records.read(folder / "judgements.jsonl", Judgement))


def _sampling(samples: int, seed: int, temperature: float = 1.0) -> SamplingConfig:
    return SamplingConfig(max_new_tokens=MAX_NEW_TOKENS, num_samples=samples, seed=seed, temperature=temperature,
                          batch_size=256)


def _train(config: Config, num_steps: int, rate: float, *, schedule: str = "constant", accumulation: int = 1
           ) -> training.TrainConfig:
    optimizer = OptimizerConfig(learning_rate=rate, warmup_steps=min(3, num_steps), schedule=schedule)
    return training.TrainConfig(num_steps=num_steps, save_every=10, seed=config.seed, accumulation=accumulation,
                           optimizer=optimizer)


def say(part: int, what: str, start: float) -> None:
    """A heading on stderr between the stages' own progress lines."""
    print(f"--- {part} of {NUM_PARTS}, after {time.monotonic() - start:.0f} s: {what}", file=sys.stderr, flush=True)


def _write(config: Config, workdir: pathlib.Path, bench: str, judged: Mapping[str, Sequence[Judgement]], policy: dict,
           counts: dict[str, int]) -> dict[str, list[dict]]:
    """Writes the report and the picture of the judges; returns the judges' rows for demo.json."""
    examples = list(records.read(bench, JudgingExample))
    curves = {}
    for name in ("sft", "rl", "downstream/dpo"):
        curves |= benches.training_curves(name.split("/")[-1], metrics.read(workdir / name / "metrics.jsonl"))
    shown = {name: report.show(Estimate(**policy[name])) for name in ("before", "after", "gain")}
    tables = [
        report.Table(title="The policy, downstream", header=("policy", "right answers", "gain, paired"),
                     rows=(("before DPO", shown["before"], ""), ("after DPO", shown["after"], shown["gain"])),
                     note=f"{config.held_out} held-out problems, two responses each; DPO on pairs that the trained "
                          "judge ordered, of problems whose answers nobody gave."),
        report.Table(title="What the chain made", header=("what", "number"), rows=tuple(counts.items()))]
    numbers = report.write(workdir, title=f"The method in miniature, seed {config.seed}", examples=examples,
                           judgements_by_judge=judged, curves=curves, tables=tables)
    picture = plots.leaderboard([score.evaluate(name, examples, some) for name, some in judged.items()])
    (workdir / "judges.svg").write_bytes(plots.svg(picture))
    gains = {(each["first"], each["second"]): each for each in numbers["differences"]}
    rows, above = [], None
    for each in numbers["judges"]:
        gain = gains.get((above, each["judge"]))
        rows.append({"judge": each["judge"], "accuracy": each["metrics"]["mean_of_sources"],
                     "gain": gain and {name: gain[name] for name in ("value", "low", "high")},
                     "unparsed": each["metrics"]["unparsed"]["value"], "tokens": each["mean_tokens"]})
        above = each["judge"]
    return {"judges": rows}


def _show(result: dict[str, Any]) -> str:
    """The table of a finished demo, accuracies and gains in percent."""
    lines = [f"seed {result['seed']}, {result['counts']['judging examples of the bench']} examples of the bench",
             f"{'judge':18}{'accuracy':>10}{'95 % interval':>17}{'gain on the row above, paired':>33}{'unparsed':>10}"
             f"{'tokens':>8}"]
    lines += [_line(row["judge"], row["accuracy"], row["gain"])
              + f"{row['unparsed']:>10.1%}{row['tokens']:>8.1f}" for row in result["judges"]]
    policy = result["policy"]
    lines += [f"{'policy, held out':18}{'right':>10}", _line("before DPO", policy["before"], None).rstrip(),
              _line("after DPO", policy["after"], policy["gain"])]
    return "\n".join(lines)


def _line(name: str, accuracy: dict, gain: dict | None) -> str:
    interval = _interval(accuracy, "")
    change = f"{gain['value']:+.1%} ({_interval(gain, '+')})" if gain else ""
    return f"{name:18}{accuracy['value']:>10.1%}{interval:>17}{change:>33}"


def _interval(estimate: dict, sign: str) -> str:
    if estimate["low"] is None:
        return "-"
    return f"{estimate['low']:{sign}.1%} to {estimate['high']:{sign}.1%}"


def main(argv: Sequence[str] | None = None) -> int:
    """`libra demo`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
