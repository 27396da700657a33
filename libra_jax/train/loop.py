"""The loop of a training run: batches in, metrics and checkpoints out; a killed run goes on bit for bit."""

from __future__ import annotations

import contextlib
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np

from libra_jax.train import checkpoint, metrics, preemption, tracking, watching
from libra_jax.train import step as steps
from libra_jax.train.state import TrainState


def fit(state: TrainState, step: Callable, batch_at: Callable[[int, Any], dict], num_steps: int, *, label: str,
        workdir: pathlib.Path, mesh: jax.sharding.Mesh, save_every: int = 0, updates: int = 1,
        max_skipped: int = 3, watch: watching.Watch | None = None, watch_every: int = 0,
        learning_rate: Callable[[int], float] | None = None,
        track: Callable[[Callable[[str], None]], tracking.Tracker] | None = None) -> TrainState:
    """Runs until `num_steps` batches are done, from the newest whole checkpoint in `workdir`/checkpoints if any.

    `batch_at(n, params)` gives the host batch number n (from 0) as a pure function of n and, for RL, of the parameters
    before it; entries that start with "metric/" are logged instead of being fed. Where it takes long it calls
    preemption.look() now and then, and is left half done after a SIGTERM. Each batch is cut into `updates` equal parts
    of its rows, one optimizer step each; metrics are their mean (or largest, by name: train/step.py).
    `save_every` 0: no checkpoints, but for that of a SIGTERM, after which the run saves, raises preemption.Preempted
    and goes on when it is started again.
    `watch` (train/watching.py) measures the parameters before the first step, after every `watch_every` steps and after
    the last; its metrics stand in the row of that step. When it raises watching.Enough the run is saved and ends there.
    `learning_rate(step)`, for TensorBoard, is that of the last update of a step. `track` as in metrics.Writer.
    ValueError when `max_skipped` steps in a row had a loss or gradient that is not finite: the last such batch of each
    host is left in `workdir`/skipped. OSError when a checkpoint cannot be written.
    """
    if max_skipped < 1:
        raise ValueError(f"max_skipped={max_skipped}: expected at least 1")
    with contextlib.ExitStack() as stack:
        notice = stack.enter_context(preemption.Notice())
        saver = stack.enter_context(contextlib.closing(
            checkpoint.Checkpointer(workdir / "checkpoints", every=save_every)))
        state = saver.restore(state)
        first = int(state.step) // updates
        watcher = watching.Watcher(watch, watch_every, num_steps, workdir, label)
        writer = None  # one host writes for all
        if jax.process_index() == 0:
            writer = stack.enter_context(contextlib.closing(
                metrics.Writer(workdir, label=label, first_step=first, num_steps=num_steps,
                               learning_rate=learning_rate, track=track)))

        def stop(done: int) -> NoReturn:
            saver.save(done, state, now=True)
            saver.wait()
            line = (f"{label}: stopped by SIGTERM after step {done}/{num_steps}, saved in {workdir}/checkpoints; run "
                    "the same command to go on")
            writer.say(line) if writer else print(line, file=sys.stderr, flush=True)
            raise preemption.Preempted

        def look(done: int) -> bool:
            try:
                return watcher.look(done, state.params, writer)
            except preemption.Preempted:
                pass  # and what it was making is let go of
            stop(done)

        ended, unseen = watcher.begin(first, writer)
        if unseen and not ended:
            ended = look(first)
        for number in range(num_steps if ended else first, num_steps):
            try:
                batch = batch_at(number, state.params)
            except preemption.Preempted:
                batch = None  # and what it was making is let go of, before anything else
            if batch is None:
                stop(number)
            extra = {name.removeprefix("metric/"): value for name, value in batch.items() if name.startswith("metric/")}
            fed = {name: value for name, value in batch.items() if not name.startswith("metric/")}
            state, means = _learn(state, step, fed, updates, mesh)
            tokens = fed["loss_mask"].sum() * jax.process_count() if "loss_mask" in fed else None
            watcher.follow(number + 1, extra | means, writer, num_tokens=tokens, keep=saver.due(number + 1))
            if means["skipped"] and int(state.skipped) >= max_skipped:
                raise ValueError(_diverged(number + 1, int(state.skipped), max_skipped, fed, workdir))
            ended = watcher.due(number + 1) and look(number + 1)
            saver.save(number + 1, state, now=ended and bool(save_every))
            if ended or number + 1 == num_steps:
                saver.wait()  # a SIGTERM in this time counts too
            if notice.agreed():
                stop(number + 1)
            if ended:
                break
    return state


def _learn(state: TrainState, step: Callable, fed: dict, updates: int, mesh: jax.sharding.Mesh
           ) -> tuple[TrainState, dict[str, float]]:
    """One optimizer step for each part of a batch; what they measured together."""
    measured = []
    for part in range(updates):
        rows = {name: value[part::updates] if np.ndim(value) else value for name, value in fed.items()}
        state, values = step(state, steps.put(rows, mesh))
        measured.append(values)
    measured = jax.device_get(measured)
    return state, {name: float((np.max if steps.largest(name) else np.mean)([values[name] for values in measured]))
                   for name in measured[0]}


def last_metrics(workdir: pathlib.Path) -> dict[str, float]:
    """The last row of a run's metrics, without its step number; empty where there is none."""
    rows = metrics.read(workdir / "metrics.jsonl")
    return {name: value for name, value in rows[-1].items() if name != "step"} if rows else {}


def _diverged(step: int, skipped: int, limit: int, batch: dict, workdir: pathlib.Path) -> str:
    """Leaves this host's batch for inspection, and says what happened."""
    host = f".process_{jax.process_index()}" if jax.process_count() > 1 else ""
    path = workdir / "skipped" / f"step_{step}{host}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **batch)
    return (f"step {step}: loss or gradient was not finite {skipped} times in a row (train.max_skipped={limit}); "
            f"parameters and checkpoints are those before; the batch is in {path}. Look at it, or start in another "
            "--workdir with a lower train.optimizer.learning_rate")
