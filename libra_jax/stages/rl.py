"""Reinforcement of a judge by GRPO: checkpoint + JudgingExample -> checkpoint.

    libra rl --workdir=DIR --config.checkpoint=FOLDER --config.examples=train.jsonl

Each step draws groups of judgements from the current parameters, rewards verdicts that are the label (plus the length
term), and updates. Groups of equal rewards teach nothing and are drawn again (DAPO's dynamic sampling).
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, Literal

import jax
import numpy as np

from libra_jax import config as configs
from libra_jax import records
from libra_jax.data import tasks
from libra_jax.judges.model import ModelJudge, ModelJudgeConfig, stable_id
from libra_jax.judging import reward
from libra_jax.judging.prompt import load_template
from libra_jax.model import transformer
from libra_jax.objectives import grpo
from libra_jax.records import JudgingExample
from libra_jax.sampling import engine
from libra_jax.stages import rollout, sft
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrpoConfig:
    """The objective (objectives/grpo.py); `length_expected` and `length_maximum` in tokens (judging/reward.py)."""

    normalise: Literal["std", "mean"] = "std"
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl_weight: float = 0.0
    importance_cap: float = 2.0
    length_expected: int = 4096
    length_maximum: int = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    checkpoint: folder in Hugging Face format.
    examples: JSON lines of JudgingExample, with labels.
    template: a name in judging/prompt.py.
    groups: groups a step. redraws: how often a step draws again while groups of equal rewards leave gaps.
    updates: optimizer steps for each draw; more than one makes the data off-policy, which the clips bound.
    sampling: `num_samples` is the group's size; the seed is the train seed's.
    """

    checkpoint: str = ""
    examples: str = ""
    template: str = "libra"
    groups: int = 32
    redraws: int = 2
    updates: int = 1
    sampling: engine.SamplingConfig = engine.SamplingConfig(max_new_tokens=4096, num_samples=8)
    grpo: GrpoConfig = GrpoConfig()
    train: sft.TrainConfig = sft.TrainConfig(optimizer=OptimizerConfig(learning_rate=1e-6))


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Samples of one prompt: `rewards` float32 [n], and for each its tokens and the sampler's log-probabilities."""

    prompt: tuple[int, ...]
    samples: tuple[engine.Sample, ...]
    rewards: np.ndarray


def to_batch(groups: list[Group], rows: int, length: int, normalise: str) -> dict[str, np.ndarray]:
    """Right-padded arrays [rows, length] of all samples; rows beyond them are empty. The mask marks sampled tokens."""
    batch = {name: np.zeros((rows, length), np.int32) for name in ("tokens", "segment_ids")}
    batch |= {name: np.zeros((rows, length), np.float32) for name in ("sampler_logprobs", "advantages")}
    batch["loss_mask"] = np.zeros((rows, length), bool)
    batch["positions"] = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    row = 0
    for group in groups:
        values = np.asarray(grpo.advantages(group.rewards[None], normalise=normalise))[0]
        for sample, advantage in zip(group.samples, values, strict=True):
            start, end = len(group.prompt), len(group.prompt) + len(sample.tokens)
            batch["tokens"][row, :start] = group.prompt
            batch["tokens"][row, start:end] = sample.tokens
            batch["segment_ids"][row, :end] = 1
            batch["sampler_logprobs"][row, start:end] = sample.logprobs
            batch["advantages"][row, start:end] = advantage
            batch["loss_mask"][row, start:end] = True
            row += 1
    return batch


class Drawer:
    """Draws groups from the current parameters and rewards them; a pure function of (step number, parameters)."""

    def __init__(self, config: Config):
        self.config = config
        self.words, self.template = tokenizers.load(config.checkpoint), load_template(config.template)
        self.judge: ModelJudge | None = None
        self.examples = list(records.read(config.examples, JudgingExample))
        for example in self.examples:
            if example.correct is None:
                raise ValueError(f"{config.examples}: example {example.id!r} has no label; RL needs one")

    def prepare(self, model, params, mesh) -> None:
        """Binds the model; keeps its first parameters where the KL term needs a reference."""
        config = self.config
        self.model, self.reference = model, params if config.grpo.kl_weight else None
        self.judge = ModelJudge(config=ModelJudgeConfig(name="rl", sampling=config.sampling), model_config=model,
                                params=params, tokenizer=self.words, template=self.template)
        rendered = [{"tokens": np.array(self.judge.prompt(example), np.int32), "example": np.array([i], np.int32)}
                    for i, example in enumerate(self.examples)]
        read = tasks.read("judging_rl", rendered, self.words.vocab_size)
        self.prompts = {int(item["example"][0]): tuple(item["tokens"].tolist()) for item in read}
        longest = max(map(len, self.prompts.values())) + config.sampling.max_new_tokens
        self.length = -(-longest // 16) * 16
        self.score = jax.jit(self._logprobs)

    def _logprobs(self, params, batch):
        return transformer.token_logprobs(self.model, params, batch["tokens"], positions=batch["positions"],
                                          segment_ids=batch["segment_ids"])

    def reward(self, example: JudgingExample, sample: engine.Sample) -> float:
        """Verdict reward plus length term; a sample that was cut off is unparsed."""
        _, verdict = self.judge.read(sample.tokens)
        limits = self.config.grpo
        return (reward.verdict_reward(verdict, example.correct)
                + reward.length_term(len(sample.tokens), limits.length_expected, limits.length_maximum))

    def draw(self, params: Any, chosen: np.ndarray, seed: int) -> list[Group]:
        """One group for each chosen example."""
        sampling = dataclasses.replace(self.config.sampling, seed=seed)
        prompts = [self.prompts[int(i)] for i in chosen]
        groups: dict[int, list[engine.Sample]] = {}
        for sample in engine.generate(self.model, params, prompts, sampling, stop_ids=self.words.stop_ids,
                                      ids=[stable_id(self.examples[int(i)].id) for i in chosen]):
            groups.setdefault(sample.prompt, []).append(sample)
        return [Group(prompt=prompts[place], samples=tuple(samples), rewards=np.array(
            [self.reward(self.examples[int(chosen[place])], sample) for sample in samples], np.float32))
            for place, samples in groups.items()]

    def batch_at(self, number: int, params: Any) -> dict:
        """The batch of step `number`: groups of unequal rewards, at most `groups` of them, and what was measured."""
        config = self.config
        useful, drawn = [], []
        for again in range(config.redraws + 1):
            place = number * (config.redraws + 1) + again
            chosen = tasks.batch_indices(config.train.seed, place, config.groups, len(self.examples))
            some = self.draw(params, chosen, seed=config.train.seed * 1_000_003 + place)
            drawn += some
            useful += [group for group in some if np.ptp(group.rewards) > 1e-6]
            if len(useful) >= config.groups:
                break
        useful = useful[: config.groups]
        rows = config.groups * config.sampling.num_samples
        batch = to_batch(useful, rows, self.length, config.grpo.normalise)
        batch["old_logprobs"] = np.asarray(self.score(params, batch))
        if self.reference is not None:
            batch["reference_logprobs"] = np.asarray(self.score(self.reference, batch))
        if config.updates > 1:  # mix the groups over the parts
            order = np.random.default_rng([config.train.seed, number]).permutation(rows)
            batch = {name: value[order] for name, value in batch.items()}
        lengths = [len(sample.tokens) for group in drawn for sample in group.samples]
        return batch | {
            "denominator": np.float32(max(batch["loss_mask"].sum() / config.updates, 1)),
            "metric/reward": float(np.mean([group.rewards.mean() for group in drawn])),
            "metric/tokens": float(np.mean(lengths)),
            "metric/useful_groups": len(useful) / len(drawn),
        }


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns the last metrics. ValueError for unlabelled examples."""
    rollout.need(config, "checkpoint", "examples")
    if (config.groups * config.sampling.num_samples) % config.updates:
        raise ValueError(f"updates={config.updates} does not divide the {config.groups} groups of "
                         f"{config.sampling.num_samples} samples")
    drawer = Drawer(config)
    how = config.grpo

    def loss_fn(model):
        def loss(params, batch):
            logprobs = transformer.token_logprobs(model, params, batch["tokens"], positions=batch["positions"],
                                                  segment_ids=batch["segment_ids"])
            return grpo.loss(logprobs, batch["old_logprobs"], batch["sampler_logprobs"], batch["advantages"],
                             batch["loss_mask"], reference_logprobs=batch.get("reference_logprobs"),
                             clip_low=how.clip_low, clip_high=how.clip_high, kl_weight=how.kl_weight,
                             importance_cap=how.importance_cap, denominator=batch["denominator"])
        return loss

    last = sft.fit(config.checkpoint, config.train, loss_fn, drawer.batch_at, "rl", workdir, prepare=drawer.prepare,
                   updates=config.updates)
    summary = {**last, "path": str(workdir / "export")}
    print(" ".join(f"{name}={value}" for name, value in summary.items()))
    return summary


def main(argv=None) -> int:
    """`libra rl`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
