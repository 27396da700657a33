"""Supervised fine-tuning of a judge on kept judgements: checkpoint + Judgement -> checkpoint.

    libra sft --workdir=DIR --config.checkpoint=FOLDER --config.examples=train.jsonl --config.kept=kept.jsonl

Writes export/ (Hugging Face format), metrics.jsonl, tensorboard/ and checkpoints/. A killed run goes on bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils

from libra_jax import config as configs
from libra_jax import records
from libra_jax.data import packing, tasks
from libra_jax.judging.prompt import load_template
from libra_jax.model import hf, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.objectives import sft
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample
from libra_jax.stages import rollout
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import loop
from libra_jax.train import optimizer as optimizers
from libra_jax.train import state as states
from libra_jax.train import step as steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Sizes of the mesh axes; -1 takes what is left."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What every training stage needs beside its data.

    Attributes:
      num_steps: steps of the loop.
      accumulation: parts into which a batch is cut for its gradient.
      save_every: steps between checkpoints; 0 for none.
      compute_dtype, remat: of the model (model/config.py).
      logit_chunk: positions of a row whose logits are held at a time (a large vocabulary needs it); 0 for all.
      seed: of the order of the data.
    """

    num_steps: int = 100
    accumulation: int = 1
    save_every: int = 50
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "none"
    logit_chunk: int = 0
    seed: int = 0
    mesh: MeshConfig = MeshConfig()
    optimizer: optimizers.OptimizerConfig = optimizers.OptimizerConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    checkpoint: folder in Hugging Face format.
    examples: JSON lines of JudgingExample.
    kept: JSON lines of Judgement on these examples, as `libra reject` keeps them.
    template: a name in judging/prompt.py.
    sequence_length: tokens of a packed row; longer conversations are left out and counted.
    batch_size: rows a step.
    """

    checkpoint: str = ""
    examples: str = ""
    kept: str = ""
    template: str = "libra"
    sequence_length: int = 4096
    batch_size: int = 16
    train: TrainConfig = TrainConfig(optimizer=optimizers.OptimizerConfig(learning_rate=1e-5))


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns counts and the last metrics. ValueError names what is missing."""
    rollout.need(config, "checkpoint", "examples", "kept")
    check_rows(config.batch_size, config.train, "batch_size")
    words, template = tokenizers.load(config.checkpoint), load_template(config.template)
    given, broken = read(config.examples, JudgingExample, workdir)
    kept_judgements, also_broken = read(config.kept, Judgement, workdir)
    examples = {example.id: example for example in given}
    rendered, too_long = [], 0
    for kept in kept_judgements:
        if kept.example_id not in examples:
            raise ValueError(f"{config.kept}: example {kept.example_id!r} is not in {config.examples} (or its line is "
                             "broken); give the file that `libra reject` judged")
        example = examples[kept.example_id]
        label = None if example.correct is None else "correct" if example.correct else "incorrect"
        if kept.verdict == "unparsed" or label not in (None, kept.verdict):
            raise ValueError(f"{config.kept}: a judgement of {kept.example_id!r} says {kept.verdict!r}, the label is "
                             f"{label!r}; give the kept.jsonl of `libra reject`, not its judgements.jsonl")
        talk = chat.render(words, template.judging_target(example.question, example.response, kept.thought,
                                                          kept.verdict))
        if len(talk.tokens) > config.sequence_length:
            too_long += 1
            continue
        rendered.append({"tokens": np.array(talk.tokens, np.int32), "loss_mask": np.array(talk.loss_mask, np.int32)})
    if too_long and not rendered:
        raise ValueError(f"{config.kept}: each of the {too_long} conversations is longer than sequence_length="
                         f"{config.sequence_length} tokens; raise it")
    hosts = jax.process_count()
    mine = tasks.read("judging_sft", rendered, words.vocab_size, shard=jax.process_index(), num_shards=hosts)
    rows = packing.pack([(item["tokens"], item["loss_mask"].astype(bool)) for item in mine], config.sequence_length)
    num_rows = len(rows["tokens"])

    def batch_at(number: int, params: Any) -> dict:
        del params
        chosen = tasks.batch_indices(config.train.seed, number, config.batch_size // hosts, num_rows)
        batch = {name: value[chosen] for name, value in rows.items()}
        return batch | {"denominator": over_hosts(batch["loss_mask"].sum())}

    def loss_fn(model):
        def loss(params, batch):
            logprobs = transformer.token_logprobs(model, params, batch["tokens"], positions=batch["positions"],
                                                  segment_ids=batch["segment_ids"], chunk=config.train.logit_chunk)
            return sft.loss(logprobs, batch["loss_mask"], batch["denominator"])
        return loss

    last = fit(config, loss_fn, batch_at, "sft", workdir, inputs=("checkpoint", "examples", "kept"))
    summary = {"judgements": len(rendered), "too_long": too_long, "broken_lines": broken + also_broken,
               "rows": num_rows, **last, "path": str(workdir / "export")}
    print(" ".join(f"{name}={value}" for name, value in summary.items()))
    return summary


def fit(config: Any, loss_fn: Callable[[ModelConfig], steps.LossFn], batch_at: Callable[[int, Any], dict], label: str,
        workdir: pathlib.Path, *, inputs: Sequence[str], updates: int = 1,
        prepare: Callable[[ModelConfig, Any, jax.sharding.Mesh], None] | None = None) -> dict[str, float]:
    """Loads `config.checkpoint`, trains it as `config.train` says and exports it; shared by the stages that train.

    `loss_fn(model_config)` is the loss of a step, `batch_at` as in train/loop.py, `updates` optimizer steps are made
    for each batch. `prepare(model_config, params, mesh)` is called once before the loop, with the parameters as loaded.
    A finished run (its export is whole) is not done again. `inputs` names the fields of `config` that are paths;
    ValueError when an earlier run in `workdir` had another config or other inputs. Returns the last row of metrics.
    """
    how, export = config.train, workdir / "export"
    rollout.claim(workdir / "export.config.json", config, inputs=inputs)
    if not (export / "config.json").exists():
        mesh = meshes.make(how.mesh.data, how.mesh.fsdp, how.mesh.tensor)
        model, params = hf.load(config.checkpoint, mesh=mesh, compute_dtype=how.compute_dtype, remat=how.remat)
        optimizer = optimizers.make(how.optimizer, how.num_steps * updates)
        step = steps.make(loss_fn(model), optimizer, accumulation=how.accumulation)
        with jax.set_mesh(mesh):  # the model's own constraints on activations hold
            if prepare:
                prepare(model, params, mesh)
            state = states.create(model, params, optimizer, mesh)
            del params  # the state has its own copy
            state = loop.fit(state, step, batch_at, how.num_steps, label=label, workdir=workdir, mesh=mesh,
                             save_every=how.save_every, updates=updates)
        hf.save(export, model, state.params, tokenizer_from=config.checkpoint)
    return loop.last_metrics(workdir)


def round_up(length: int, config: TrainConfig) -> int:
    """The length of the rows that hold `length` tokens: a multiple of 16, and of `logit_chunk`."""
    unit = math.lcm(16, config.logit_chunk or 1)
    return -(-length // unit) * unit


def read(path: str, cls: type, workdir: pathlib.Path) -> tuple[list, int]:
    """The records of a file and its number of broken lines, which go to `workdir`/<file>.rejected.jsonl."""
    workdir.mkdir(parents=True, exist_ok=True)
    rejected: list[str] = []
    aside = workdir / (pathlib.Path(path).name + ".rejected.jsonl")
    found = list(records.read(path, cls, rejected=rejected, aside=aside))
    for line in rejected[:10]:
        print(f"set aside: {line}", file=sys.stderr)
    return rollout.some(found, path, rejected), len(rejected)


def check_rows(num_rows: int, config: TrainConfig, name: str, *, updates: int = 1) -> None:
    """ValueError unless batches of `num_rows` (called `name`) fit hosts, devices, updates and accumulation alike."""
    mesh = meshes.make(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    unit = updates * ways * config.accumulation
    if num_rows < 1 or num_rows % unit:
        raise ValueError(f"{name}={num_rows}: expected a multiple of {unit} = {updates} updates * {ways} devices "
                         f"(data * fsdp) * {config.accumulation} parts (accumulation), or some devices would idle")


def over_hosts(count: int) -> np.float32:
    """The sum of a count over all hosts, each of which calls this at the same step."""
    if jax.process_count() == 1:
        return np.float32(count)
    return np.float32(multihost_utils.process_allgather(np.asarray(count, np.int32)).sum())


def main(argv=None) -> int:
    """`libra sft`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
