r"""Reinforcement of a judge by GRPO: checkpoint + JudgingExample -> checkpoint.

    libra rl --workdir=DIR --config.checkpoint=FOLDER --config.examples=train.jsonl
    libra rl --workdir=DIR --config.checkpoint=FOLDER --config.examples=train.jsonl \
        --config.ranking=ranking_train.jsonl --config.problems=problems.jsonl --config.weights=0.6,0.2,0.2

Each step draws groups of judgements from the current parameters, rewards verdicts that are the label (plus the length
term), and updates. Groups of ranking questions and of ordinary problems may be mixed in: learning/mixture.py. Groups of
equal rewards teach nothing and are drawn again (DAPO's dynamic sampling). `train` does the same for any prompts and any
reward. How groups are drawn, also ahead of training: learning/groups.py.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.judges.model import ModelJudge, ModelJudgeConfig
from libra_jax.judging import reward as rewards
from libra_jax.judging.prompt import load_template
from libra_jax.learning import groups, looks, mixture, seen, thoughts
from libra_jax.learning.config import Config as Config
from libra_jax.learning.config import GrpoConfig as GrpoConfig
from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.objectives import grpo
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import metrics
from libra_jax.train import run as training
from libra_jax.train import step as steps


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns the last metrics. ValueError for unlabelled examples."""
    runs.need(config, "checkpoint", *([] if config.ranking or config.problems else ["examples"]))
    words, template = tokenizers.load(config.checkpoint), load_template(config.template)
    # The judge's own prompt and reading of its tokens, so that training rewards what the bench measures.
    reader = ModelJudge(config=ModelJudgeConfig(), model_config=None, params=None, tokenizer=words, template=template)
    with contextlib.ExitStack() as stack:
        mixed = mixture.load(config, reader, workdir, stack)
        held_out = looks.slice_of(config.held_out, config.watch, mixed.problem_ids, reader, workdir,
                                  longest=config.prompt_length)
        watch = looks.watch(config.watch, config.sampling, held_out, reader, workdir)
        last = train_mixture(config, mixed, words.stop_ids, workdir, watch=watch, watch_every=config.watch.every,
                             inputs=("checkpoint", "examples", "judgements", "ranking", "problems", "held_out"),
                             show=thoughts.show(config, mixed.judged, reader, workdir))
    if watch:
        looks.draw(workdir, metrics.read(workdir / "metrics.jsonl"))
    named = {"judging": "examples"}
    summary = {**{named.get(kind.name, kind.name): kind.num_examples for kind in mixed.kinds},
               "too_long": sum(kind.too_long for kind in mixed.kinds),
               "broken_lines": sum(kind.broken for kind in mixed.kinds),
               **{name: count for kind in mixed.kinds for name, count in kind.counts.items()}, **last,
               "path": str(workdir / "export")}
    runs.report(summary)
    return summary


def train(config: Config, prompts: Sequence[Sequence[int]], stop_ids: Sequence[int], reward: mixture.Reward,
          workdir: pathlib.Path, *, inputs: Sequence[str] = ("checkpoint",), label: str = "rl",
          watch: seen.Watch | None = None, watch_every: int = 0, show: groups.Show | None = None
          ) -> dict[str, Any]:
    """GRPO of `config.checkpoint` on prompts of token ids under `reward`, to which the length term is added.

    The files and the template of `config` are not looked at. `reward` must be a function of its arguments alone, or a
    resumed run is not the same run, and several hosts, each of which calls it, would not agree. Samples are packed into
    rows of one length, whose number is rounded up to one of a few, so that few programs train. Returns the last
    metrics; ValueError for settings that cannot be.

    `watch` is given the parameters (seen.Seen, which samples with them) before the first step, after every
    `watch_every` steps (0: never between) and after the last, and returns metrics that stand in the row of that step.
    Like `reward` it must be a function of its arguments alone. It raises watching.Enough(reason, metrics) to end the
    run there: the last parameters are exported, and `stopped` in what is returned says after which step and why.
    `show` is given the groups that train each step.
    """
    one = mixture.Mixture(kinds=[mixture.Kind(name=label, prompts=prompts, reward=reward)])
    return train_mixture(config, one, stop_ids, workdir, inputs=inputs, label=label, watch=watch,
                         watch_every=watch_every, show=show)


def train_mixture(config: Config, kinds: mixture.Mixture, stop_ids: Sequence[int], workdir: pathlib.Path, *,
                  inputs: Sequence[str] = ("checkpoint",), label: str = "rl", watch: seen.Watch | None = None,
                  watch_every: int = 0, show: groups.Show | None = None) -> dict[str, Any]:
    """As `train`, on prompts of one or several kinds."""
    train_devices, sampling_devices = devices(config, jax.devices())
    check(config, kinds.prompts, train_devices)
    score = functools.partial(scorer, config)
    with contextlib.closing(groups.Drawer(config, kinds, stop_ids, score, sampling_devices, show)) as drawer:
        return training.fit(config, objective(config), drawer.batch_at, label, workdir, inputs=inputs,
                            prepare=drawer.prepare, updates=config.updates, devices=train_devices,
                            watch=watch and (lambda *seen: watch(drawer.seen(*seen))), watch_every=watch_every)


def devices(config: Config, every: Sequence[jax.Device]) -> tuple[list[jax.Device], list[jax.Device]]:
    """The devices that train and those that sample: all and all, or the first and the last of them.

    ValueError where they cannot be divided as the config says.
    """
    every, number = list(every), config.sampling_devices
    if not config.overlap:
        if number:
            raise ValueError(f"sampling_devices={number}: only with overlap=True; without it all devices do both")
        return every, every
    if jax.process_count() > 1:
        raise ValueError(f"overlap=True on {jax.process_count()} hosts: drawing ahead works on one host; set it to "
                         "False")
    if (number == 0 and len(every) > 1) or not 0 <= number < max(2, len(every)) or (number and len(every) == 1):
        raise ValueError(f"sampling_devices={number} of {len(every)} devices: with overlap=True expected 1 to "
                         f"{len(every) - 1} (two programs at once on several devices would wait for each other), or 0 "
                         "of a single device")
    if number and (len(every) - number) % number:
        raise ValueError(f"sampling_devices={number} of {len(every)}: expected a divisor of the {len(every) - number} "
                         "that train, so that weights go from one device to another")
    return (every[:-number], every[-number:]) if number else (every, every)


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


def check(config: Config, prompts: Sequence[Sequence[int]], train_devices: Sequence[jax.Device]) -> None:
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
                        updates=config.updates, devices=train_devices)


def _logprobs(model: ModelConfig, params: Any, batch: dict, temperature: float, chunk: int) -> jax.Array:
    return transformer.token_logprobs(model, params, batch["tokens"], positions=batch["positions"],
                                      segment_ids=batch["segment_ids"], temperature=temperature, chunk=chunk,
                                      wanted=batch["loss_mask"])


def main(argv: Sequence[str] | None = None) -> int:
    """`libra rl`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
