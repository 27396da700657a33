"""What having no answers costs, in miniature: a policy before and after DPO and RL, by judge, majority and verifier.

    python benchmarks/downstream.py --demo=runs/demo --workdir=runs/downstream --seeds=0,1

After `libra demo`: its trained judge, its 300 problems without answers and its 500 held-out ones; the verifier alone
gets the 300 answers. Each seed draws, pairs and trains anew. Prints a table of accuracies on the held-out problems with
paired gains, and what of the verifier's gain the others reach; writes downstream.json. What is done is not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from libra_jax import records
from libra_jax.bench import significance
from libra_jax.bench.significance import Bootstrap, Estimate
from libra_jax.bench.tables import Table, show, to_text
from libra_jax.miniature import arithmetic
from libra_jax.records import Problem, VerifiedRollout
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import best_of, downstream, dpo, improve, judge, rollout, verify
from libra_jax.train import metrics
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

CHECKPOINT = str(pathlib.Path(arithmetic.__file__).parent / "checkpoint")
CONFIG = pathlib.Path(__file__).parents[1] / "configs/miniature_improve.py"
BY = ("judge", "majority", "verifier")
BEFORE = "before"


def prepare(demo: pathlib.Path, workdir: pathlib.Path) -> dict[str, pathlib.Path]:
    """The demo's problems: "open" without answers, "known", the same with theirs, and "held_out"."""
    files = {name: workdir / f"{name}.jsonl" for name in ("open", "known", "held_out")}
    asked = list(records.read(demo / "unanswered.jsonl", Problem))
    stream = int(asked[0].id.split("-")[1])
    wanted = {each.id for each in asked}
    known = [each for each in arithmetic.problems(stream, 100 * len(asked)) if each.id in wanted]
    if [dataclasses.replace(each, answer=None) for each in known] != asked:
        raise ValueError(f"{demo}/unanswered.jsonl: not problems of the miniature's stream {stream}, in order")
    for name, some in (("open", asked), ("known", known),
                       ("held_out", list(records.read(demo / "held_out.jsonl", Problem)))):
        records.write(files[name], some)
    return files


def sampling(samples: int, seed: int) -> SamplingConfig:
    """How everybody draws."""
    return SamplingConfig(max_new_tokens=64, num_samples=samples, seed=seed, batch_size=256)


def preferences(files: dict[str, pathlib.Path], demo: pathlib.Path, folder: pathlib.Path, seed: int) -> None:
    """DPO on pairs ordered by each; exports in dpo/BY."""
    rollout.run(rollout.Config(problems=str(files["open"]), checkpoint=CHECKPOINT, policy="plain", template="miniature",
                               sampling=sampling(8, 100 + seed)), folder / "rollouts")
    judging = judge.Config(checkpoint=str(demo / "rl/export"), template="miniature", sampling=sampling(4, 200 + seed))
    train = training.TrainConfig(num_steps=40, save_every=0, seed=seed, optimizer=OptimizerConfig(
        learning_rate=1e-4, warmup_steps=3, schedule="cosine"))
    for by in BY:
        downstream.run(downstream.Config(problems=str(files["known" if by == "verifier" else "open"]), by=by,
                                         rollouts=str(folder / "rollouts/rollouts.jsonl"), judge=judging),
                       folder / "pairs" / by)
        dpo.run(dpo.Config(checkpoint=CHECKPOINT, pairs=str(folder / "pairs" / by / "pairs.jsonl"),
                           template="miniature", sequence_length=128, batch_size=32, beta=0.5, train=train),
                folder / "dpo" / by)


def reinforcement(files: dict[str, pathlib.Path], demo: pathlib.Path, folder: pathlib.Path, seed: int) -> None:
    """RL with each reward, watched on the held-out problems; exports in rl/BY."""
    spec = importlib.util.spec_from_file_location("miniature_improve", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config: improve.Config = module.get_config()
    config = dataclasses.replace(
        config, judge=dataclasses.replace(config.judge, checkpoint=str(demo / "rl/export")),
        rl=dataclasses.replace(config.rl, train=dataclasses.replace(config.rl.train, seed=seed)))
    for by in BY:
        problems = str(files["known" if by == "verifier" else "open"])
        watch = improve.WatchConfig(problems=str(files["held_out"]), every=10, seed=300,
                                    num_samples=3 if by == "majority" else 1)  # which needs voters
        improve.run(dataclasses.replace(config, problems=problems, reward=by, watch=watch), folder / "rl" / by)


def answers(files: dict[str, pathlib.Path], checkpoint: str, folder: pathlib.Path, samples: int, seed: int
            ) -> list[VerifiedRollout]:
    """Verified responses of a policy to the held-out problems."""
    rollout.run(rollout.Config(problems=str(files["held_out"]), checkpoint=checkpoint, policy=folder.name,
                               template="miniature", sampling=sampling(samples, seed)), folder)
    verify.run(verify.Config(problems=str(files["held_out"]), rollouts=str(folder / "rollouts.jsonl")), folder)
    return list(records.read(folder / "verified.jsonl", VerifiedRollout))


def shares(problems: Sequence[Problem], rollouts: Sequence[VerifiedRollout]) -> np.ndarray:
    """The share of right responses to each problem [problems]."""
    right = {problem.id: [] for problem in problems}
    for each in rollouts:
        right[each.problem_id].append(each.correct is True)
    return np.array([np.mean(right[problem.id]) for problem in problems])


def estimates(problems: Sequence[Problem], values: dict[str, np.ndarray]) -> dict[str, dict[str, Estimate]]:
    """Accuracy of each policy, its paired gain on BEFORE, and the part of the verifier's gain that it reaches.

    `values`: shares of right answers [problems], a mean over seeds. Intervals resample problems, not seeds.
    """
    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        means = {name: weights @ each / weights.sum(axis=1) for name, each in values.items()}
        gains = {name: mean - means[BEFORE] for name, mean in means.items()}
        parts = {name: significance.ratio(gain, gains[name.split()[0] + " verifier"])
                 for name, gain in gains.items() if name != BEFORE}
        return ({f"accuracy/{name}": mean for name, mean in means.items()}
                | {f"gain/{name}": gain for name, gain in gains.items() if name != BEFORE}
                | {f"part/{name}": part for name, part in parts.items()})

    found = significance.estimate(statistic, [each.id for each in problems], [each.source for each in problems],
                                  Bootstrap())
    return {name: {kind: found[f"{kind}/{name}"] for kind in ("accuracy", "gain", "part") if f"{kind}/{name}" in found}
            for name in values}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=pathlib.Path, required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", default="0", type=lambda text: [int(each) for each in text.split(",")])
    options = parser.parse_args()
    demo, workdir = options.demo, options.workdir
    files = prepare(demo, workdir)
    held_out = list(records.read(files["held_out"], Problem))
    pool = answers(files, CHECKPOINT, workdir / BEFORE, 8, 400)
    picking = best_of.Config(problems=str(files["held_out"]), rollouts=str(workdir / BEFORE / "verified.jsonl"))
    best_of.run(picking, workdir / "best_of")
    judge.run(judge.Config(examples=str(workdir / "best_of/examples.jsonl"), checkpoint=str(demo / "rl/export"),
                           template="miniature", name="judge", sampling=sampling(4, 500)), workdir / "best_of/judge")
    best_of.run(dataclasses.replace(picking, judgements=(str(workdir / "best_of/judge/judgements.jsonl"),)),
                workdir / "best_of")
    by_seed: dict[str, list[np.ndarray]] = {BEFORE: [shares(held_out, pool)]}
    looks = {}
    for seed in options.seeds:
        folder = workdir / f"seed{seed}"
        preferences(files, demo, folder, seed)
        reinforcement(files, demo, folder, seed)
        for way in ("dpo", "rl"):
            for by in BY:
                made = answers(files, str(folder / way / by / "export"), folder / "answers" / f"{way}_{by}", 4, 600)
                by_seed.setdefault(f"{way} {by}", []).append(shares(held_out, made))
        for by in BY:
            rows = metrics.read(folder / "rl" / by / "metrics.jsonl")
            looks[f"{by}, seed {seed}"] = [(row["step"], row["held_out_reward"], row["held_out_accuracy"])
                                           for row in rows if "held_out_reward" in row]
    found = estimates(held_out, {name: np.mean(some, axis=0) for name, some in by_seed.items()})
    each = {name: [float(values.mean()) for values in some] for name, some in by_seed.items()}
    records.write_json(workdir / "downstream.json", {
        "seeds": options.seeds, "by_seed": each, "looks": looks,
        "policies": {name: {kind: dataclasses.asdict(one) for kind, one in kinds.items()}
                     for name, kinds in found.items()}})
    print(to_text(Table(title=f"Right on {len(held_out)} held-out problems, mean of seeds {options.seeds}",
                        header=("policy", "accuracy", "gain", "part of the verifier's gain", "by seed"),
                        rows=tuple((name, *(show(found[name][kind]) if kind in found[name] else ""
                                            for kind in ("accuracy", "gain", "part")),
                                    " ".join(f"{value:.3f}" for value in each[name])) for name in found))))
    print(json.dumps(looks))


if __name__ == "__main__":
    main()
