"""The loop of a training run: batches in, metrics and checkpoints out; a killed run goes on bit for bit."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from libra_jax.train import checkpoint, metrics
from libra_jax.train import step as steps
from libra_jax.train.state import TrainState


def fit(state: TrainState, step: Callable, batch_at: Callable[[int, Any], dict], num_steps: int, *, label: str,
        workdir: pathlib.Path, mesh: jax.sharding.Mesh, save_every: int = 0) -> TrainState:
    """Runs `step` until `num_steps` are done, from the newest checkpoint in `workdir`/checkpoints if there is one.

    `batch_at(n, params)` gives the host batch of step n (from 0) as a pure function of n and, for RL, of the
    parameters before that step; entries that start with "metric/" are logged instead of being fed. `save_every` 0:
    no checkpoints.
    """
    saver = checkpoint.Checkpointer(workdir / "checkpoints", every=save_every)
    state = saver.restore(state)
    first = int(state.step)
    writer = metrics.Writer(workdir, label=label, first_step=first, num_steps=num_steps)
    for number in range(first, num_steps):
        batch = batch_at(number, state.params)
        extra = {name.removeprefix("metric/"): value for name, value in batch.items() if name.startswith("metric/")}
        fed = {name: value for name, value in batch.items() if not name.startswith("metric/")}
        state, measured = step(state, steps.put(fed, mesh))
        writer.write(number + 1, extra | jax.device_get(measured))
        saver.save(number + 1, state)
    saver.close()
    writer.close()
    return state
