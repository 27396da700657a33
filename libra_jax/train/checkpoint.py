"""Asynchronous Orbax checkpoints of a train state; the newest whole one is where a run goes on."""

from __future__ import annotations

import pathlib

import jax
import orbax.checkpoint as ocp

from libra_jax.train.state import TrainState


class Checkpointer:
    """Saves under `folder`/<step>, keeps the newest `keep`; a save that was killed leaves nothing that counts."""

    def __init__(self, folder: pathlib.Path, *, every: int, keep: int = 2):
        self._manager = ocp.CheckpointManager(
            pathlib.Path(folder).absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, save_interval_steps=max(every, 1)))
        self._every = every

    def restore(self, state: TrainState) -> TrainState:
        """The newest saved state, laid out as `state` is, which is freed; `state` itself where nothing was saved."""
        newest = self._manager.latest_step()
        if newest is None:
            return state
        shape = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        jax.tree.map(lambda leaf: leaf.delete(), state)  # two states may not fit
        return self._manager.restore(newest, args=ocp.args.StandardRestore(shape))

    def save(self, step: int, state: TrainState) -> None:
        """Starts to save the state after `step` steps, when it is due; returns before it is written."""
        if self._every:
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def close(self) -> None:
        """Waits until all that was started is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()
