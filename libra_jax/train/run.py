"""A training run from a checkpoint folder to a checkpoint folder, for any loss and any source of batches."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils

from libra_jax import runs
from libra_jax.judging import prompt
from libra_jax.model import hf, lora, peft, transformer
from libra_jax.model.attention import LANES
from libra_jax.model.config import ModelConfig, Remat
from libra_jax.model.lora import LoraConfig
from libra_jax.parallel import mesh as meshes
from libra_jax.train import loop, watching
from libra_jax.train import optimizer as optimizers
from libra_jax.train import state as states
from libra_jax.train import step as steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What every training stage needs beside its data.

    Attributes:
      num_steps: steps of the loop.
      accumulation: parts into which a batch is cut for its gradient.
      save_every: steps between checkpoints; 0 for none.
      max_skipped: so many steps in a row without a finite loss and gradient, each of them skipped, end the run.
      compute_dtype, remat: of the model (model/config.py).
      attention: auto is splash attention on TPUs and xla elsewhere (model/attention.py).
      logit_chunk: positions of each row whose logits are held at a time; 0: an eighth of all.
      seed: of the order of the data, and of the adapters.
      lora: with a rank above 0 adapters alone are trained and saved, and the export is merged (docs/lora.md).
    """

    num_steps: int = 100
    accumulation: int = 1
    save_every: int = 50
    max_skipped: int = 3
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"
    attention: Literal["auto", "xla", "splash", "splash_interpret"] = "auto"
    logit_chunk: int = 0
    seed: int = 0
    lora: LoraConfig = LoraConfig()
    mesh: meshes.MeshConfig = meshes.MeshConfig()
    optimizer: optimizers.OptimizerConfig = optimizers.OptimizerConfig()


def fit(config: Any, loss_fn: Callable[[ModelConfig], steps.LossFn], batch_at: Callable[[int, Any], dict], label: str,
        workdir: pathlib.Path, *, inputs: Sequence[str], updates: int = 1,
        prepare: Callable[[ModelConfig, Any, jax.sharding.Mesh], None] | None = None,
        devices: Sequence[jax.Device] | None = None, watch: watching.Watch | None = None, watch_every: int = 0
        ) -> dict[str, Any]:
    """Loads `config.checkpoint`, trains it as `config.train` says and exports it, with `config.template` beside it;
    shared by the stages that train.

    `loss_fn(model_config)` is the loss of a step, `batch_at` as in train/loop.py, `updates` optimizer steps are made
    for each batch, on `devices` (default: all). `prepare(model_config, params, mesh)` is called once before the loop,
    with the parameters as loaded (of a LoRA run, as they stay). `watch` and `watch_every` as in train/loop.py; where
    the watch ends the run, its last parameters are exported, and `stopped` beside the metrics says after which step and
    why.
    A finished run (its export is whole) is not done again. `inputs` names the fields of `config` that are paths;
    ValueError when an earlier run in `workdir` had another config or other inputs. What a signal, a full disk or a loss
    that is not finite do: train/loop.py. Returns the last row of metrics.
    """
    how, export = config.train, workdir / "export"
    runs.claim(workdir / "export.config.json", config, inputs=inputs)
    if not runs.from_first(lambda: b"whole" if (export / "config.json").exists() else b""):
        mesh = meshes.make(how.mesh, devices)
        model, params = hf.load(config.checkpoint, mesh=mesh)
        model = as_trained(model, how, mesh)
        optimizer = optimizers.make(how.optimizer, how.num_steps * updates)
        step = steps.make(objective(loss_fn(model), how.lora), optimizer, accumulation=how.accumulation)
        with jax.set_mesh(mesh):  # the model's own constraints on activations hold
            if how.lora.rank:
                params = transformer.cast(model, params)  # as every product takes them; they need no more
                step, batch_at, watch = _adapting(step, batch_at, watch, params, how.lora)
            if prepare:
                prepare(model, params, mesh)
            if how.lora.rank:
                params = lora.init(model, how.lora, mesh, seed=how.seed)
                _say(label, model, how.lora)
            state = states.create(model, params, optimizer, mesh, how.lora)
            del params  # the state has its own copy
            state = loop.fit(state, step, batch_at, how.num_steps, label=label, workdir=workdir, mesh=mesh,
                             save_every=how.save_every, updates=updates, max_skipped=how.max_skipped, watch=watch,
                             watch_every=watch_every,
                             learning_rate=lambda done: float(optimizers.schedule(
                                 how.optimizer, how.num_steps * updates)(done * updates - 1)))
        params = state.params
        if how.lora.rank:
            peft.save(workdir / "adapter", model, params, how.lora, base=config.checkpoint)
            del step, batch_at, watch  # and with them the frozen parameters; exported are those of the file, in full
            params = _merged(hf.load(config.checkpoint, mesh=mesh)[1], params, how.lora)
        if runs.is_first():  # before config.json, which says that the export is whole
            prompt.save_template(export, prompt.load_template(config.template))
        hf.save(export, model, params, tokenizer_from=config.checkpoint)
    note = watching.stopped(workdir)
    stopped = {"stopped": f"after step {note['step']}/{how.num_steps}: {note['reason']}"} if note else {}
    return loop.last_metrics(workdir) | stopped


def objective(loss: steps.LossFn, adapters: LoraConfig) -> steps.LossFn:
    """A loss of the model's parameters as the loss of what is trained: itself, or loss(adapters, batch, frozen)."""
    if not adapters.rank:
        return loss
    return lambda trained, batch, frozen: loss(lora.join(frozen, trained, adapters), batch)


def _adapting(step: Callable, batch_at: Callable, watch: watching.Watch | None, frozen: transformer.Params,
              adapters: LoraConfig) -> tuple[Callable, Callable, watching.Watch | None]:
    """`step`, `batch_at` and `watch` as the loop calls them, with adapters in place of parameters."""
    return (lambda state, batch: step(state, batch, frozen),
            lambda number, trained: batch_at(number, lora.join(frozen, trained, adapters)),
            watch and (lambda number, trained, rows: watch(number, lora.join(frozen, trained, adapters), rows)))


def _merged(params: transformer.Params, trained: Any, adapters: LoraConfig) -> transformer.Params:
    """The adapted parameters in full, laid out as `params`, whose memory they take over."""
    merge = functools.partial(jax.jit, donate_argnums=0, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, params))
    return merge(lambda params, trained: lora.merge(lora.join(params, trained, adapters)))(params, trained)


def _say(label: str, model: ModelConfig, adapters: LoraConfig) -> None:
    trained, every = lora.num_parameters(model, adapters), transformer.num_parameters(model)
    if jax.process_index() == 0:
        print(f"{label}: LoRA of rank {adapters.rank} trains {trained:,} numbers beside {every:,} frozen ones "
              f"({trained / every:.2%})", file=sys.stderr, flush=True)


def as_trained(model: ModelConfig, config: TrainConfig, mesh: jax.sharding.Mesh) -> ModelConfig:
    """The model as `config` computes it on `mesh`."""
    attention = config.attention
    if attention == "auto":
        attention = "splash" if mesh.devices.flat[0].platform == "tpu" else "xla"
    return dataclasses.replace(model, dtype=config.compute_dtype, remat=config.remat, attention=attention)


def round_up(length: int, config: TrainConfig) -> int:
    """The length of the rows that hold `length` tokens, in parts that (on TPUs) attention divides."""
    splash = config.attention.startswith("splash") or (config.attention == "auto" and jax.default_backend() == "tpu")
    unit = (LANES if splash else 16) * max(config.mesh.sequence, 1)
    return -(-length // unit) * unit


def check_rows(num_rows: int, config: TrainConfig, name: str, *, updates: int = 1, ways: int = 0,
               devices: Sequence[jax.Device] | None = None) -> None:
    """ValueError unless batches of `num_rows` (called `name`) fit hosts, devices, updates and accumulation alike.

    `ways`: over how many devices rows are spread; 0: as the config's mesh over `devices` (default: all) says.
    """
    if not ways:
        mesh = meshes.make(config.mesh, devices)
        ways = mesh.shape["data"] * mesh.shape["fsdp"]
    unit = updates * ways * config.accumulation
    if num_rows < 1 or num_rows % unit:
        raise ValueError(f"{name}={num_rows}: expected a multiple of {unit} = {updates} updates * {ways} devices "
                         f"(data * fsdp) * {config.accumulation} parts (accumulation), or some devices would idle")


def over_hosts(counts: np.ndarray) -> np.ndarray:
    """The sum of int32 counts of any shape over all hosts, which call this together."""
    return counts if jax.process_count() == 1 else multihost_utils.process_allgather(counts).sum(axis=0)
