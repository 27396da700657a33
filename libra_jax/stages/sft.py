"""Supervised fine-tuning of a judge on kept judgements: checkpoint + Judgement -> checkpoint.

    libra sft --workdir=DIR --config.checkpoint=FOLDER --config.examples=train.jsonl --config.kept=kept.jsonl

Writes export/ (Hugging Face format), metrics.jsonl, tensorboard/ and checkpoints/. A killed run goes on bit for bit.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, Literal

import jax
import numpy as np

from libra_jax import config as configs
from libra_jax import records
from libra_jax.data import packing, tasks
from libra_jax.judging.prompt import load_template
from libra_jax.model import hf, transformer
from libra_jax.objectives import sft
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample
from libra_jax.stages import rollout
from libra_jax.text import chat, tokenizer as tokenizers
from libra_jax.train import loop, optimizer as optimizers, state as states, step as steps


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
      seed: of the order of the data.
    """

    num_steps: int = 100
    accumulation: int = 1
    save_every: int = 50
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "none"
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
    words, template = tokenizers.load(config.checkpoint), load_template(config.template)
    examples = {example.id: example for example in records.read(config.examples, JudgingExample)}
    rendered, too_long = [], 0
    for kept in records.read(config.kept, Judgement):
        if kept.example_id not in examples:
            raise ValueError(f"{config.kept}: example {kept.example_id!r} is not in {config.examples}; give the file "
                             "that `libra reject` judged")
        example = examples[kept.example_id]
        talk = chat.render(words, template.judging_target(example.question, example.response, kept.thought,
                                                          kept.verdict))
        if len(talk.tokens) > config.sequence_length:
            too_long += 1
            continue
        rendered.append({"tokens": np.array(talk.tokens, np.int32), "loss_mask": np.array(talk.loss_mask, np.int32)})
    hosts = jax.process_count()
    mine = tasks.read("judging_sft", rendered, words.vocab_size, shard=jax.process_index(), num_shards=hosts)
    rows = packing.pack([(item["tokens"], item["loss_mask"].astype(bool)) for item in mine], config.sequence_length)
    num_rows = len(rows["tokens"])

    def batch_at(number: int, params: Any) -> dict:
        del params
        chosen = tasks.batch_indices(config.train.seed, number, config.batch_size // hosts, num_rows)
        batch = {name: value[chosen] for name, value in rows.items()}
        return batch | {"denominator": np.float32(batch["loss_mask"].sum() * hosts)}

    def loss_fn(model):
        def loss(params, batch):
            logprobs = transformer.token_logprobs(model, params, batch["tokens"], positions=batch["positions"],
                                                  segment_ids=batch["segment_ids"])
            return sft.loss(logprobs, batch["loss_mask"], batch["denominator"])
        return loss

    last = fit(config.checkpoint, config.train, loss_fn, batch_at, "sft", workdir)
    summary = {"judgements": len(rendered), "too_long": too_long, "rows": num_rows, **last,
               "path": str(workdir / "export")}
    print(" ".join(f"{name}={value}" for name, value in summary.items()))
    return summary


def fit(checkpoint: str, config: TrainConfig, loss_fn, batch_at, label: str, workdir: pathlib.Path, *,
        prepare=None, updates: int = 1) -> dict:
    """Loads `checkpoint`, trains it by `loss_fn(model_config)` on `batch_at(number, params)`, exports it.

    Shared by the stages that train. `prepare(model_config, params, mesh)` is called once before the loop, with the
    parameters as loaded; `updates` optimizer steps are made for each batch, on equal parts of it. A finished run (its
    export is whole) is not done again. Returns the last row of metrics.
    """
    mesh = meshes.make(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    export = workdir / "export"
    if not (export / "config.json").exists():
        model, params = hf.load(checkpoint, mesh=mesh, compute_dtype=config.compute_dtype, remat=config.remat)
        if prepare:
            prepare(model, params, mesh)
        optimizer = optimizers.make(config.optimizer, config.num_steps * updates)
        state = states.create(model, params, optimizer, mesh)
        step = steps.make(loss_fn(model), optimizer, accumulation=config.accumulation)
        state = loop.fit(state, step, batch_at, config.num_steps, label=label, workdir=workdir, mesh=mesh,
                         save_every=config.save_every, updates=updates)
        hf.save(export, model, state.params, tokenizer_from=checkpoint)
    return loop.last_metrics(workdir)


def main(argv=None) -> int:
    """`libra sft`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
