r"""Reinforces a policy on problems without answers, with a judge's score as the reward: checkpoint -> checkpoint.

    libra improve --workdir=DIR --config.problems=problems.jsonl --config.rl.checkpoint=POLICY \
        --config.judge.checkpoint=JUDGE
    libra improve --workdir=DIR --config.problems=problems.jsonl --config.rl.checkpoint=POLICY --config.reward=majority

Beside it the same run by the majority of a group (TTRL), which needs no judge, or by the true verifier, which needs
answers: what having no answers costs. What is sampled and how it is learned from is the rl stage's (`--config.rl`).

    libra improve --workdir=DIR --config.problems=problems.jsonl --config.rl.checkpoint=POLICY \
        --config.judge.checkpoint=JUDGE --config.watch.problems=held_out.jsonl --config.watch.every=10

also measures the reward and the true accuracy on problems with answers, before, every so many steps and after, and ends
the run where the one rises while the other falls (bench/divergence.py): a policy that has learned to please its judge.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Literal

import jax
import numpy as np

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.bench import divergence
from libra_jax.bench.divergence import Divergence
from libra_jax.judges import graders
from libra_jax.judges.graders import Grader, Solution
from libra_jax.judges.model import stable_id
from libra_jax.judging.prompt import load_template, save_template
from libra_jax.learning import mixture, seen
from libra_jax.model import hf, lora
from libra_jax.records import Problem
from libra_jax.sampling import engine
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import judge, rl
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import metrics, preemption
from libra_jax.train.watching import Enough
from libra_jax.verify import batch

# Fields of the rl stage's config that have no meaning here.
OF_JUDGES = ("examples", "judgements", "curriculum", "ranking", "problems", "weights", "timeout", "held_out", "watch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Attributes:
    problems: JSON lines of Problem with answers, which nothing is learned from; empty: nothing is watched.
    every: steps between two looks; 0: before the first and after the last step alone.
    num_samples, seed: responses to each problem at each look, and of their draws; otherwise they are drawn as in
      training.
    keep_best: also export the parameters of the look with the highest accuracy, the first of several, to
      `workdir`/best; they are chosen by these problems, so other ones measure them.
    divergence: when to end the run.
    """

    problems: str = ""
    every: int = 10
    num_samples: int = 4
    seed: int = 0
    keep_best: bool = False
    divergence: Divergence = Divergence()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    problems: JSON lines of Problem; only the verifier looks at answers, and needs them.
    reward: who rewards a solution: "judge" is `judge`, a checkpoint; "majority" the commonest answer of its group;
      "verifier" the rules of verify/ (all in judges/graders.py).
    judge: how the judge scores; its `sampling.num_samples` votes a solution.
    rl: the policy (`checkpoint`, `template`), its sampling and its training; fields about judging examples (OF_JUDGES)
      are refused.
    watch: problems with answers, on which the reward is held against the truth.
    """

    problems: str = ""
    reward: Literal["judge", "majority", "verifier"] = "judge"
    judge: judge.Config = judge.Config(sampling=SamplingConfig(max_new_tokens=4096, num_samples=4))
    rl: rl.Config = rl.Config()
    watch: WatchConfig = WatchConfig()


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns counts and the last metrics, with `stopped` where it ended early.

    What is watched gives the summary the step of its best look, too.

    ValueError where the reward cannot be had: no answers for the verifier, or a judge that is no checkpoint.
    """
    runs.need(config, "problems")
    runs.need(config.rl, "checkpoint")
    problems, broken = runs.read(config.problems, Problem, workdir)
    held_out, more = runs.read(config.watch.problems, Problem, workdir) if config.watch.problems else ([], 0)
    check(config, problems, held_out)
    _claim(config, workdir)
    words, template = tokenizers.load(config.rl.checkpoint), load_template(config.rl.template)

    def asked(some: Sequence[Problem]) -> list[tuple[int, ...]]:
        return [chat.render(words, template.solving(problem.question), open_last=True).tokens for problem in some]

    prompts = asked(problems)
    fitting = [place for place, prompt in enumerate(prompts) if len(prompt) <= config.rl.prompt_length]
    judging = by_judge(config) if config.reward == "judge" else None
    with batch.Pool() as pool, batch.Pool() as apart:  # the watch may look while the next groups are rewarded
        reward = rewarding([problems[place] for place in fitting], words, judging or by_rules(config.reward, pool))
        watch = watching(config, held_out, asked(held_out), words, judging or by_rules(config.reward, apart),
                         by_rules("verifier", apart), workdir / "best") if held_out else None
        last = rl.train(config.rl, [prompts[place] for place in fitting], words.stop_ids, reward, workdir,
                        label="improve", watch=watch, watch_every=config.watch.every)
    summary = {"problems": len(problems), "too_long": len(problems) - len(fitting), "broken_lines": broken + more}
    if held_out:
        known = {problem.question for problem in problems}
        summary["held_out_also_trained_on"] = sum(problem.question in known for problem in held_out)
        looks = [row for row in metrics.read(workdir / "metrics.jsonl") if "held_out_accuracy" in row]
        best = max(looks, key=lambda row: row["held_out_accuracy"])
        summary |= {"best_step": int(best["step"]), "best_held_out_accuracy": best["held_out_accuracy"]}
    summary |= {**last, "path": str(workdir / "export")}
    runs.report(summary)
    return summary


def check(config: Config, problems: Sequence[Problem], held_out: Sequence[Problem]) -> None:
    """ValueError for a reward or a watch that cannot be had; the message names the remedy."""
    for name in OF_JUDGES:
        if getattr(config.rl, name) != getattr(rl.Config(), name):
            raise ValueError(f"rl.{name}={getattr(config.rl, name)}: that is for those who learn to judge; a policy "
                             "learns from --config.problems and is watched by --config.watch; leave it out")
    for name, needing in (("reward=verifier", problems if config.reward == "verifier" else ()),
                          ("watch.problems", held_out)):
        unknown = next((problem.id for problem in needing if problem.answer is None), None)
        if unknown is not None:
            raise ValueError(f"{name}: problem {unknown!r} has no answer; give problems with answers, or do without")
    if held_out and config.reward == "majority" and config.watch.num_samples < 3:
        raise ValueError(f"watch.num_samples={config.watch.num_samples} with reward=majority: of fewer than 3 no "
                         "answer is outvoted, and the reward is always 1; expected at least 3")
    if config.reward == "judge":
        if config.judge.judge != "model" or config.judge.enough:
            raise ValueError(f"judge.judge={config.judge.judge}, judge.enough={config.judge.enough}: the reward must "
                             "be the same whenever it is asked for, and of each solution by itself; expected "
                             "judge.judge=model and judge.enough=0")
        if config.rl.overlap:
            raise ValueError("rl.overlap=True with reward=judge: the judge needs the devices that train meanwhile; set "
                             "it to False")
        runs.need(config.judge, "checkpoint")


def by_judge(config: Config) -> Grader:
    """The judge's grader, left in the midst at a SIGTERM; on several hosts all of them sample it together."""
    return graders.by_judge(dataclasses.replace(judge.make(config.judge), progress=lambda _: preemption.look()))


def by_rules(reward: str, pool: batch.Pool) -> Grader:
    """The verifier's or the majority's grader; on several hosts the first one decides, since a time-out is chance."""
    grade = {"verifier": graders.by_verifier, "majority": graders.by_majority}[reward](pool)

    def first(some: Sequence[Solution]) -> tuple[list[float], dict[str, float]]:
        earned, measured = json.loads(runs.from_first(lambda: json.dumps(grade(some)).encode()))
        return earned, measured

    return first


def rewarding(problems: Sequence[Problem], words: tokenizers.Tokenizer, grade: Grader) -> mixture.Reward:
    """The reward of the rl stage's `train`, for the problem of each prompt."""

    def reward(owners: Sequence[int], samples: Sequence[engine.Sample]) -> tuple[list[float], dict[str, float]]:
        return grade([Solution(problem=problems[owner], group=sample.prompt, text=written(words, sample))
                      for owner, sample in zip(owners, samples, strict=True)])

    return reward


def watching(config: Config, problems: Sequence[Problem], prompts: Sequence[Sequence[int]],
             words: tokenizers.Tokenizer, grade: Grader, verify: Grader, best: pathlib.Path) -> seen.Watch:
    """The watch of the rl stage's `train`: held_out_reward and held_out_accuracy, and the end where they come apart.

    With `keep_best` the folder `best` gets the parameters of every look that is better than all before, tokenizer and
    all.
    """
    sampling = dataclasses.replace(config.rl.sampling, num_samples=config.watch.num_samples, seed=config.watch.seed)
    ids = [stable_id(problem.id) for problem in problems]

    def watch(seen: seen.Seen) -> dict[str, float]:
        drawn = [Solution(problem=problems[sample.prompt], group=sample.prompt, text=written(words, sample))
                 for sample in seen.sample(prompts, sampling, ids=ids)]
        measured = {"held_out_reward": float(np.mean(grade(drawn)[0])),
                    "held_out_accuracy": float(np.mean(verify(drawn)[0]))}
        looks = [(row["held_out_reward"], row["held_out_accuracy"]) for row in [*seen.rows, measured]
                 if "held_out_reward" in row]
        if config.watch.keep_best and all(looks[-1][1] > accuracy for _, accuracy in looks[:-1]):
            with jax.set_mesh(None):  # out of the trainer's mesh, since files take one device's part at a time
                if runs.is_first():
                    save_template(best, load_template(config.rl.template))
                hf.save(best, seen.model, lora.merge(seen.params), tokenizer_from=config.rl.checkpoint)
        if reason := divergence.found(looks, config.watch.divergence):
            raise Enough(reason, measured)
        return measured

    return watch


def written(words: tokenizers.Tokenizer, sample: engine.Sample) -> str | None:
    """The text of a sample without its stop token; None where it was cut off."""
    return words.decode(sample.tokens[:-1].tolist()) if sample.finish == "stop" else None


def _claim(config: Config, workdir: pathlib.Path) -> None:
    """Notes by what the policy is rewarded; the rl stage notes the rest."""
    judging = judge.Config()  # of which nothing is asked where another rewards
    if config.reward == "judge":
        judging = dataclasses.replace(config.judge, checkpoint=runs.fingerprint(pathlib.Path(config.judge.checkpoint)))
    watched = config.watch
    if watched.problems:
        watched = dataclasses.replace(watched, problems=runs.fingerprint(pathlib.Path(watched.problems)))
    note = dataclasses.replace(config, judge=judging, watch=watched, rl=rl.Config())
    runs.claim(workdir / "reward.config.json", note, inputs=("problems",))


def main(argv: Sequence[str] | None = None) -> int:
    """`libra improve`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
