"""The loop of a training run: batches in, metrics and checkpoints out; a killed run goes on bit for bit."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from libra_jax.train import checkpoint, metrics
from libra_jax.train import step as steps
from libra_jax.train.state import TrainState


def fit(state: TrainState, step: Callable, batch_at: Callable[[int, Any], dict], num_steps: int, *, label: str,
        workdir: pathlib.Path, mesh: jax.sharding.Mesh, save_every: int = 0, updates: int = 1) -> TrainState:
    """Runs until `num_steps` batches are done, from the newest checkpoint in `workdir`/checkpoints if there is one.

    `batch_at(n, params)` gives the host batch number n (from 0) as a pure function of n and, for RL, of the parameters
    before it; entries that start with "metric/" are logged instead of being fed. Each batch is cut into `updates`
    equal parts of its rows, one optimizer step each; metrics are their mean. `save_every` 0: no checkpoints.
    """
    saver = checkpoint.Checkpointer(workdir / "checkpoints", every=save_every)
    state = saver.restore(state)
    first = int(state.step) // updates
    writer = None  # one host writes for all
    if jax.process_index() == 0:
        writer = metrics.Writer(workdir, label=label, first_step=first, num_steps=num_steps)
    for number in range(first, num_steps):
        batch = batch_at(number, state.params)
        extra = {name.removeprefix("metric/"): value for name, value in batch.items() if name.startswith("metric/")}
        fed = {name: value for name, value in batch.items() if not name.startswith("metric/")}
        measured = []
        for part in range(updates):
            rows = {name: value[part::updates] if np.ndim(value) else value for name, value in fed.items()}
            state, values = step(state, steps.put(rows, mesh))
            measured.append(values)
        means = jax.tree.map(lambda *values: float(np.mean(values)), *jax.device_get(measured))
        if writer:
            writer.write(number + 1, extra | means)
        saver.save(number + 1, state)
    saver.close()
    if writer:
        writer.close()
    return state


def last_metrics(workdir: pathlib.Path) -> dict[str, float]:
    """The last row of a run's metrics, without its step number; empty where there is none."""
    rows = metrics.read(workdir / "metrics.jsonl")
    return {name: value for name, value in rows[-1].items() if name != "step"} if rows else {}
