"""The whole method in miniature, on two CPU cores: from problems to a trained, measured judge and policy.

    libra demo --workdir=runs/demo

Policies of three strengths answer arithmetic problems; rules verify the answers; V2V makes judging sets for training
and for a held-out bench of other problems; the base judge is measured without and with thinking; rejection sampling,
SFT and GRPO improve it, measured after each; the trained judge orders responses to problems without answers, and DPO on
its pairs improves the policy. Prints one table and writes report.html (with the curves), report.json, judges.svg and
demo.json. A killed demo goes on where it stopped.
"""

from __future__ import annotations

import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from libra_jax import records
from libra_jax.bench import plots, report, score
from libra_jax.bench.significance import Estimate
from libra_jax.command import entry
from libra_jax.records import Judgement, JudgingExample
from libra_jax.stages import bench as benches
from libra_jax.stages import chain, rl, sft
from libra_jax.train import metrics

NUM_PARTS = 5
Config = chain.Sizes
WRITES = ("answered.jsonl", "unanswered.jsonl", "held_out.jsonl", "policies/", "verified.jsonl", "sets/", "bench/",
          "reject/", "sft/", "rl/", "downstream/", "report.html", "report.json", "judges.svg", "demo.json")


def run(sizes: chain.Sizes, workdir: pathlib.Path) -> dict:
    """Runs the chain in `workdir`, a folder for each stage; returns what demo.json holds."""
    start = time.monotonic()
    workdir = pathlib.Path(workdir)
    problems = chain.problems(sizes, workdir)
    say(1, "policies answer, rules verify, V2V curates", start)
    verified, card = chain.sets(sizes, problems["answered"], workdir)
    train, bench, base = workdir / "sets/train.jsonl", workdir / "sets/bench.jsonl", chain.CHECKPOINT

    def judged(name: str, checkpoint: pathlib.Path, folder: str, thinking: bool = True) -> dict[str, list[Judgement]]:
        return {name: chain.judgements(sizes, name, checkpoint, bench, workdir / "bench" / folder, thinking=thinking)}

    say(2, "the base judge is measured", start)
    measured = judged("base, no thought", base, "unthinking", thinking=False) | judged("base", base, "base")
    say(3, "rejection sampling, SFT", start)
    kept = chain.kept(sizes, train, workdir / "reject")
    sft.run(chain.sft_config(sizes, base, train, workdir / "reject/kept.jsonl"), workdir / "sft")
    measured |= judged("SFT", workdir / "sft/export", "sft")
    say(4, "GRPO", start)
    rl.run(chain.rl_config(sizes, workdir / "sft/export", train), workdir / "rl")
    measured |= judged("SFT + RL", workdir / "rl/export", "rl")
    say(5, "the judge orders responses to problems without answers, DPO", start)
    folder = workdir / "downstream"
    rollouts = chain.unanswered(sizes, problems["unanswered"], folder / "rollouts")
    ordered = chain.taught(sizes, problems["unanswered"], rollouts, workdir / "rl/export", folder)
    before, after = (chain.policy_answers(sizes, problems["held_out"], checkpoint, folder / name)
                     for name, checkpoint in (("before", base), ("after", folder / "dpo/export")))
    policy = chain.gained(problems["held_out"], before, after)
    counts = {"problems with answers": sizes.problems, "responses": len(verified),
              "undecided by the rules": sum(each.correct is None for each in verified),
              "judging examples to train on": card["train"]["examples"],
              "judging examples of the bench": card["bench"]["examples"],
              "judgements drawn for SFT": kept["judgements"], "judgements kept": kept["kept"],
              "responses to problems without answers": ordered["responses"], "preference pairs": ordered["pairs"]}
    seconds = round(time.monotonic() - start)
    result = {"seed": sizes.seed, "seconds": seconds, "counts": counts, "policy": policy}
    result |= _write(sizes, workdir, bench, measured, policy, counts)
    records.write_json(workdir / "demo.json", result)
    print(_show(result))
    print(f"{seconds} s; read {workdir / 'report.html'}; everything lies in {workdir}")
    return result


def say(part: int, what: str, start: float) -> None:
    """A heading on stderr between the stages' own progress lines."""
    print(f"--- {part} of {NUM_PARTS}, after {time.monotonic() - start:.0f} s: {what}", file=sys.stderr, flush=True)


def _write(sizes: chain.Sizes, workdir: pathlib.Path, bench: pathlib.Path, judged: Mapping[str, Sequence[Judgement]],
           policy: dict, counts: dict[str, int]) -> dict[str, list[dict]]:
    """Writes the report and the picture of the judges; returns the judges' rows for demo.json."""
    examples = list(records.read(bench, JudgingExample))
    curves = {}
    for name in ("sft", "rl", "downstream/dpo"):
        curves |= benches.training_curves(name.split("/")[-1], metrics.read(workdir / name / "metrics.jsonl"))
    shown = {name: report.show(Estimate(**policy[name])) for name in ("before", "after", "gain")}
    tables = [
        report.Table(title="The policy, downstream", header=("policy", "right answers", "gain, paired"),
                     rows=(("before DPO", shown["before"], ""), ("after DPO", shown["after"], shown["gain"])),
                     note=f"{sizes.held_out} held-out problems, two responses each; DPO on pairs that the trained "
                          "judge ordered, of problems whose answers nobody gave."),
        report.Table(title="What the chain made", header=("what", "number"), rows=tuple(counts.items()))]
    numbers = report.write(workdir, title=f"The method in miniature, seed {sizes.seed}", examples=examples,
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
    return entry.main(run, Config(), argv, writes=WRITES)


if __name__ == "__main__":
    raise SystemExit(main())
