"""Reinforcement of a judge by GRPO: checkpoint + JudgingExample -> checkpoint.

    libra rl --workdir=DIR --config.checkpoint=FOLDER --config.examples=train.jsonl

Each step draws groups of judgements from the current parameters, rewards verdicts that are the label (plus the length
term), and updates. Groups of equal rewards teach nothing and are drawn again (DAPO's dynamic sampling). `train` does
the same for any prompts and any reward.

Sampling and training share all devices of all hosts, and the parameters stay spread over them. Every host gets all
samples, in one order, rewards them alike and packs the same batch, of whose rows it feeds its own share. (So each host
reads all prompts: every device program gets them all.)
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.data import packing, tasks
from libra_jax.judges.model import ModelJudge, ModelJudgeConfig
from libra_jax.judging import reward as rewards
from libra_jax.judging.prompt import load_template
from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.objectives import grpo
from libra_jax.parallel import mesh as meshes
from libra_jax.records import JudgingExample
from libra_jax.sampling import engine
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import run as training
from libra_jax.train import step as steps
from libra_jax.train.optimizer import OptimizerConfig

MIN_ROW = 256  # places of a row at least, so that short samples share one

# (index of the prompt of each sample, samples) -> (reward of each, metrics of them all)
Reward = Callable[[Sequence[int], Sequence[engine.Sample]], tuple[Sequence[float], dict[str, float]]]


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
    prompt_length: longer prompts are left out and counted.
    groups: groups a step. redraws: how often a step draws again while groups of equal rewards leave gaps.
    updates: optimizer steps for each draw; more than one makes the data off-policy, which the clips bound.
    sampling: `num_samples` is the group's size; the seed is the train seed's. The objective's log-probabilities are
      taken at its temperature; filters (top_k, top_p) would sample from another policy and are refused.
    """

    checkpoint: str = ""
    examples: str = ""
    template: str = "libra"
    prompt_length: int = 8192
    groups: int = 32
    redraws: int = 2
    updates: int = 1
    sampling: engine.SamplingConfig = engine.SamplingConfig(max_new_tokens=4096, num_samples=8)
    grpo: GrpoConfig = GrpoConfig()
    train: training.TrainConfig = training.TrainConfig(optimizer=OptimizerConfig(learning_rate=1e-6))


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns the last metrics. ValueError for unlabelled examples."""
    runs.need(config, "checkpoint", "examples")
    words, template = tokenizers.load(config.checkpoint), load_template(config.template)
    examples, broken = runs.read(config.examples, JudgingExample, workdir)
    for example in examples:
        if example.correct is None:
            raise ValueError(f"{config.examples}: example {example.id!r} has no label; RL needs one")
    # The judge's own prompt and reading of its tokens, so that training rewards what the bench measures.
    reader = ModelJudge(config=ModelJudgeConfig(), model_config=None, params=None, tokenizer=words, template=template)
    prompts = [reader.prompt(example) for example in examples]
    features = [{"tokens": np.array(prompt, np.int32), "example": np.array([index], np.int32)}
                for index, prompt in enumerate(prompts) if len(prompt) <= config.prompt_length]
    items = list(tasks.read("judging_rl", features, words.vocab_size))
    labels = [examples[int(item["example"][0])].correct for item in items]

    def reward(owners: Sequence[int], samples: Sequence[engine.Sample]) -> tuple[list[float], dict[str, float]]:
        verdicts = [reader.read(sample.tokens)[1] for sample in samples]
        given = [rewards.verdict_reward(verdict, labels[owner])
                 for owner, verdict in zip(owners, verdicts, strict=True)]
        return given, {"right": float(np.mean(given)), "unparsed": verdicts.count("unparsed") / len(verdicts)}

    last = train(config, [tuple(item["tokens"].tolist()) for item in items], words.stop_ids, reward, workdir,
                 inputs=("checkpoint", "examples"))
    summary = {"examples": len(examples), "too_long": len(examples) - len(features), "broken_lines": broken, **last,
               "path": str(workdir / "export")}
    runs.report(summary)
    return summary


def train(config: Config, prompts: Sequence[Sequence[int]], stop_ids: Sequence[int], reward: Reward,
          workdir: pathlib.Path, *, inputs: Sequence[str] = ("checkpoint",), label: str = "rl") -> dict[str, float]:
    """GRPO of `config.checkpoint` on prompts of token ids under `reward`, to which the length term is added.

    `config.examples` and `config.template` are not looked at. `reward` must be a function of its arguments alone, or a
    resumed run is not the same run, and several hosts, each of which calls it, would not agree. Samples are packed into
    rows of one length, whose number is rounded up to one of a few, so that few programs train. Returns the last
    metrics; ValueError for settings that cannot be.
    """
    check(config, prompts)
    drawer = Drawer(config, prompts, stop_ids, reward)
    return training.fit(config, objective(config), drawer.batch_at, label, workdir, inputs=inputs,
                        prepare=drawer.prepare, updates=config.updates)


def objective(config: Config) -> Callable[[ModelConfig], steps.LossFn]:
    """The loss of a step for a model, of batches as `to_batch` and Drawer.batch_at make them."""
    how, heat = config.grpo, config.sampling.temperature

    def for_model(model: ModelConfig) -> steps.LossFn:
        def loss(params, batch):
            logprobs = _logprobs(model, params, batch, heat, config.train.logit_chunk)
            old = batch.get("old_logprobs", jax.lax.stop_gradient(logprobs))
            sampler = batch["sampler_logprobs"]
            if heat != 1.0:  # the sampler speaks of temperature 1: there its difference from the trainer is taken
                sampler = old - (batch["plain_logprobs"] - sampler)
            return grpo.loss(logprobs, old, sampler, batch["advantages"], batch["loss_mask"],
                             reference_logprobs=batch.get("reference_logprobs"), clip_low=how.clip_low,
                             clip_high=how.clip_high, kl_weight=how.kl_weight, importance_cap=how.importance_cap,
                             denominator=batch["denominator"])
        return loss

    return for_model


def scorer(config: Config, model: ModelConfig, mesh: jax.sharding.Mesh) -> Callable[[Any, dict, float], jax.Array]:
    """Jitted (parameters, batch, temperature) -> log-probabilities [rows, T] of its tokens, laid out as its rows.

    As many rows at a time as a training step takes.
    """
    def score(params, batch, heat):
        rows = {name: steps.cut(value, config.train.accumulation) for name, value in batch.items()}
        return steps.join(jax.lax.map(
            lambda part: _logprobs(model, params, part, heat, config.train.logit_chunk), rows))

    layout = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
    return jax.jit(score, out_shardings=layout)


def check(config: Config, prompts: Sequence[Sequence[int]]) -> None:
    """ValueError for settings with which GRPO cannot learn or run; the message names the remedy."""
    sampling = config.sampling
    if not prompts:
        raise ValueError(f"no prompt of at most prompt_length={config.prompt_length} tokens; raise it, or give some")
    if sampling.temperature <= 0 or sampling.top_k or sampling.top_p != 1.0 or sampling.num_samples < 2:
        raise ValueError(f"sampling.temperature={sampling.temperature}, top_k={sampling.top_k}, "
                         f"top_p={sampling.top_p}, num_samples={sampling.num_samples}: RL needs a temperature above 0, "
                         "no filters (top_k=0, top_p=1) and groups of at least 2 samples")
    rewards.length_term(0, config.grpo.length_expected, config.grpo.length_maximum)
    training.check_rows(config.groups * sampling.num_samples, config.train, "groups * sampling.num_samples",
                        updates=config.updates)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Samples of one prompt, and their `rewards` float32 [n]."""

    prompt: Sequence[int]
    samples: Sequence[engine.Sample]
    rewards: np.ndarray


def to_batch(groups: Sequence[Group], row_step: int, length: int, normalise: str) -> dict[str, np.ndarray]:
    """All samples with their prompts, packed into arrays [rows, length]; `rows` is a multiple of `row_step`.

    As packing.pack, and float32 sampler_logprobs and advantages. The mask marks sampled tokens.
    """
    every = []
    for group in groups:
        values = np.asarray(grpo.advantages(group.rewards[None], normalise=normalise))[0]
        every += [(group.prompt, sample, value) for sample, value in zip(group.samples, values, strict=True)]
    rows = packing.plan([len(prompt) + len(sample.tokens) for prompt, sample, _ in every], length)
    batch = packing.empty(max(-(-len(rows) // row_step), 1) * row_step, length)
    batch |= {name: np.zeros(batch["tokens"].shape, np.float32) for name in ("sampler_logprobs", "advantages")}
    for row, members in enumerate(rows):
        start = 0
        for segment, index in enumerate(members, 1):
            prompt, sample, advantage = every[index]
            mask = np.arange(len(prompt) + len(sample.tokens)) >= len(prompt)
            end = packing.put(batch, row, start, segment, [*prompt, *sample.tokens], mask)
            batch["sampler_logprobs"][row, start + len(prompt) : end] = sample.logprobs
            batch["advantages"][row, start + len(prompt) : end] = advantage
            start = end
    return batch


class Drawer:
    """Draws groups from the current parameters and rewards them; a pure function of (step number, parameters)."""

    def __init__(self, config: Config, prompts: Sequence[Sequence[int]], stop_ids: Sequence[int], reward: Reward):
        self.config, self.prompts, self.stop_ids, self.reward = config, prompts, stop_ids, reward
        self.longest = max(map(len, prompts)) + config.sampling.max_new_tokens
        self.length = training.round_up(max(self.longest, MIN_ROW), config.train)

    def prepare(self, model: ModelConfig, params: Any, mesh: jax.sharding.Mesh) -> None:
        """Binds the model; keeps its first parameters where the KL term needs a reference."""
        self.model, self.mesh = model, mesh
        self.reference = transformer.cast(model, params) if self.config.grpo.kl_weight else None
        self.score = scorer(self.config, model, mesh)
        unit = self.config.updates * mesh.shape["data"] * mesh.shape["fsdp"] * self.config.train.accumulation
        most = self.config.groups * self.config.sampling.num_samples * self.longest / self.length
        self.row_step = math.ceil(most / (8 * unit)) * unit

    def draw(self, params: Any, turn: int) -> tuple[list[Group], dict[str, float]]:
        """One group for each of the `groups` prompts of this turn, and what was measured."""
        config = self.config
        chosen = tasks.batch_indices(config.train.seed, turn, config.groups, len(self.prompts))
        seed = int(np.random.SeedSequence([config.train.seed, turn]).generate_state(1)[0] >> 1)  # fits an int32
        samples = list(engine.generate(
            self.model, transformer.cast(self.model, params), [self.prompts[i] for i in chosen],
            dataclasses.replace(config.sampling, seed=seed), stop_ids=self.stop_ids,
            mesh=self.mesh if self.mesh.size > 1 else None))
        given, measured = self.reward([int(chosen[sample.prompt]) for sample in samples], samples)
        limits = config.grpo
        values = np.array([value + rewards.length_term(len(sample.tokens), limits.length_expected,
                                                       limits.length_maximum)
                           for value, sample in zip(given, samples, strict=True)], np.float32)
        size = config.sampling.num_samples
        groups = [Group(self.prompts[chosen[place]], samples[place * size : (place + 1) * size],
                        values[place * size : (place + 1) * size]) for place in range(config.groups)]
        return groups, measured | {
            "reward": float(values.mean()),
            "tokens": float(np.mean([len(sample.tokens) for sample in samples])),
            "cut_off": float(np.mean([sample.finish == "length" for sample in samples])),
            "useful_groups": float(np.mean([np.ptp(group.rewards) > 1e-6 for group in groups])),
        }

    def batch_at(self, number: int, params: Any) -> dict[str, Any]:
        """The batch of step `number`: groups of unequal rewards, at most `groups` of them, and what was measured.

        Of its rows, those that this host feeds.
        """
        config, heat = self.config, self.config.sampling.temperature
        useful: list[Group] = []
        turns = []
        for again in range(config.redraws + 1):
            groups, measured = self.draw(params, number * (config.redraws + 1) + again)
            turns.append(measured)
            useful += [group for group in groups if np.ptp(group.rewards) > 1e-6]
            if len(useful) >= config.groups:
                break
        batch: dict[str, Any] = to_batch(useful[: config.groups], self.row_step, self.length, config.grpo.normalise)
        if config.updates > 1:  # mix long and short ones over the parts
            order = np.random.default_rng([config.train.seed, number]).permutation(len(batch["tokens"]))
            batch = {name: value[order] for name, value in batch.items()}
        denominator = np.float32(max(batch["loss_mask"].sum() / config.updates, 1))  # of all hosts
        shares, own = meshes.shares(len(batch["tokens"]), self.mesh)
        batch = {name: value[shares[own]] for name, value in batch.items()}
        wanted = {"old_logprobs": (params, heat)} if config.updates > 1 else {}
        wanted |= {"plain_logprobs": (params, 1.0)} if heat != 1.0 else {}
        wanted |= {"reference_logprobs": (self.reference, heat)} if self.reference is not None else {}
        if wanted:
            fed = steps.put({name: batch[name] for name in ("tokens", "positions", "segment_ids")}, self.mesh)
            batch |= {name: steps.host_rows(self.score(of, fed, at)) for name, (of, at) in wanted.items()}
        metrics = {name: float(np.mean([measured[name] for measured in turns])) for name in turns[0]}
        batch["denominator"] = denominator
        return batch | {f"metric/{name}": value for name, value in metrics.items()} | {"metric/draws": len(turns)}


def _logprobs(model: ModelConfig, params: Any, batch: dict, temperature: float, chunk: int) -> jax.Array:
    return transformer.token_logprobs(model, params, batch["tokens"], positions=batch["positions"],
                                      segment_ids=batch["segment_ids"], temperature=temperature, chunk=chunk)


def main(argv: Sequence[str] | None = None) -> int:
    """`libra rl`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
