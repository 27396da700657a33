r"""Reinforces a policy on problems without answers by GRPO, with a judge's score as the reward: checkpoint -> checkpoint.

    libra improve --workdir=DIR --config.problems=problems.jsonl --config.rl.checkpoint=POLICY \
        --config.judge.checkpoint=JUDGE
    libra improve --workdir=DIR --config.problems=problems.jsonl --config.rl.checkpoint=POLICY --config.reward=majority

Beside it the same run by the majority of a group (TTRL), which needs no judge, or by the true verifier, which needs
answers: what having no answers costs. What is sampled and how it is learned from is the rl stage's (`--config.rl`).
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.judges import solutions
from libra_jax.judges.solutions import Grader, Solution
from libra_jax.judging.prompt import load_template
from libra_jax.records import Problem
from libra_jax.sampling import engine
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import drawing, judge, rl
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers
from libra_jax.verify import batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    problems: JSON lines of Problem; only the verifier looks at answers, and needs them.
    reward: who rewards a solution: "judge" is `judge`, a checkpoint; "majority" the commonest answer of its group;
      "verifier" the rules of verify/ (all in judges/solutions.py).
    judge: how the judge scores; its `sampling.num_samples` votes a solution.
    rl: the policy (`checkpoint`, `template`), its sampling and its training; `rl.examples` has no use here.
    """

    problems: str = ""
    reward: Literal["judge", "majority", "verifier"] = "judge"
    judge: judge.Config = judge.Config(sampling=SamplingConfig(max_new_tokens=4096, num_samples=4))
    rl: rl.Config = rl.Config()


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns counts and the last metrics.

    ValueError where the reward cannot be had: no answers for the verifier, or a judge that is no checkpoint.
    """
    runs.need(config, "problems")
    runs.need(config.rl, "checkpoint")
    problems, broken = runs.read(config.problems, Problem, workdir)
    check(config, problems)
    _claim(config, workdir)
    words, template = tokenizers.load(config.rl.checkpoint), load_template(config.rl.template)
    prompts = [chat.render(words, template.solving(problem.question), open_last=True).tokens for problem in problems]
    fitting = [place for place, prompt in enumerate(prompts) if len(prompt) <= config.rl.prompt_length]
    with batch.Pool() as pool:
        reward = rewarding([problems[place] for place in fitting], words, grader(config, pool))
        last = rl.train(config.rl, [prompts[place] for place in fitting], words.stop_ids, reward, workdir,
                        label="improve")
    summary = {"problems": len(problems), "too_long": len(problems) - len(fitting), "broken_lines": broken, **last,
               "path": str(workdir / "export")}
    runs.report(summary)
    return summary


def check(config: Config, problems: Sequence[Problem]) -> None:
    """ValueError for a reward that cannot be had; the message names the remedy."""
    if config.rl.examples:
        raise ValueError(f"rl.examples={config.rl.examples}: a policy learns from --config.problems; leave it empty")
    if config.reward == "verifier":
        unknown = next((problem.id for problem in problems if problem.answer is None), None)
        if unknown is not None:
            raise ValueError(f"reward=verifier: problem {unknown!r} has no answer; give problems with answers, or "
                             "reward by judge or majority")
    if config.reward == "judge":
        if config.judge.judge != "model" or config.judge.enough:
            raise ValueError(f"judge.judge={config.judge.judge}, judge.enough={config.judge.enough}: the reward must "
                             "be the same whenever it is asked for, and of each solution by itself; expected "
                             "judge.judge=model and judge.enough=0")
        runs.need(config.judge, "checkpoint")


def grader(config: Config, pool: batch.Pool) -> Grader:
    """Who rewards, as `config.reward` says."""
    if config.reward == "verifier":
        return solutions.by_verifier(pool)
    if config.reward == "majority":
        return solutions.by_majority(pool)
    return solutions.by_judge(dataclasses.replace(judge.make(config.judge), progress=None))


def rewarding(problems: Sequence[Problem], words: tokenizers.Tokenizer, grade: Grader) -> drawing.Reward:
    """The reward of the rl stage's `train`, for the problem of each prompt."""

    def reward(owners: Sequence[int], samples: Sequence[engine.Sample]) -> tuple[list[float], dict[str, float]]:
        return grade([Solution(problem=problems[owner], group=sample.prompt, text=written(words, sample))
                      for owner, sample in zip(owners, samples, strict=True)])

    return reward


def written(words: tokenizers.Tokenizer, sample: engine.Sample) -> str | None:
    """The text of a sample without its stop token; None where it was cut off."""
    return words.decode(sample.tokens[:-1].tolist()) if sample.finish == "stop" else None


def _claim(config: Config, workdir: pathlib.Path) -> None:
    """Notes by what the policy is rewarded; the rl stage notes the rest."""
    judging = config.judge
    if config.reward == "judge":
        judging = dataclasses.replace(judging, checkpoint=runs.fingerprint(pathlib.Path(judging.checkpoint)))
    runs.claim(workdir / "reward.config.json", dataclasses.replace(config, judge=judging, rl=rl.Config()),
               inputs=("problems",))


def main(argv: Sequence[str] | None = None) -> int:
    """`libra improve`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
