"""One training step as a jitted program: a loss as an argument, gradients accumulated over parts of the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from libra_jax.train.state import TrainState

Batch = Mapping[str, Any]
LossFn = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


LARGEST = "_max"


def largest(name: str) -> bool:
    """Whether the largest of a batch's parts and updates counts as the metric `name`, not their sum or mean."""
    return name.strip("[]\"'").endswith(LARGEST)


def put(batch: Batch, mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """This host's rows of a batch on the devices: leading axes over (data, fsdp), scalars everywhere."""
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
    scalar = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return {name: jax.make_array_from_process_local_data(rows if np.ndim(value) else scalar, np.asarray(value))
            for name, value in batch.items()}


def host_rows(array: jax.Array) -> np.ndarray:
    """The rows of an array laid out as by `put` that this host fed, in their order."""
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def cut(array: jax.Array, parts: int) -> jax.Array:
    """[B, ...] -> [parts, B / parts, ...]: row r goes to part r % parts, so that each device keeps its rows."""
    return jnp.swapaxes(array.reshape(-1, parts, *array.shape[1:]), 0, 1)


def join(array: jax.Array) -> jax.Array:
    """What `cut` has cut: [parts, B / parts, ...] -> [B, ...]."""
    return jnp.swapaxes(array, 0, 1).reshape(-1, *array.shape[2:])


def make(loss_fn: LossFn, optimizer: optax.GradientTransformation, *, accumulation: int = 1) -> Callable:
    """Returns jitted step(state, batch, *frozen) -> (state, metrics); the state is donated.

    `loss_fn(params, batch, *frozen)` gives (loss, metrics), each a sum divided by scalars in the batch that count the
    whole of it, so that the parts of a batch add up to the whole; of metrics whose names end in LARGEST the largest
    counts. Arrays [B, ...] are cut into `accumulation` parts of B / accumulation rows; scalars go to each part.
    `grad_norm` (of `params` alone) joins the metrics, and two that are 0 or 1: "skipped", loss or gradient are not
    finite; "no_signal", the gradient is zero (a batch without any advantage), where AdamW would move on by momentum and
    decay alone. In both cases only `step` changes, parameters and optimizer stay as they were.
    """
    gradient_of = jax.value_and_grad(loss_fn, has_aux=True)

    def parts(batch: Batch) -> tuple[dict, dict]:
        arrays = {name: value for name, value in batch.items() if jnp.ndim(value)}
        for name, value in arrays.items():
            if value.shape[0] % accumulation:
                raise ValueError(f"accumulation={accumulation} does not divide the {value.shape[0]} rows of {name!r}")
        scalars = {name: value for name, value in batch.items() if not jnp.ndim(value)}
        return {name: cut(value, accumulation) for name, value in arrays.items()}, scalars

    def step(state: TrainState, batch: Batch, *frozen: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        if accumulation == 1:
            (loss, metrics), gradient = gradient_of(state.params, batch, *frozen)
        else:
            rows, scalars = parts(batch)
            part = {name: value[0] for name, value in rows.items()} | scalars
            zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
                                jax.eval_shape(gradient_of, state.params, part, *frozen))

            def add(total, rows):
                return jax.tree_util.tree_map_with_path(
                    lambda path, one, other: (jnp.maximum if largest(str(path[-1])) else jnp.add)(one, other), total,
                    gradient_of(state.params, rows | scalars, *frozen)), None

            ((loss, metrics), gradient), _ = jax.lax.scan(add, zero, rows)
        norm = optax.global_norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        learns = finite & (norm > 0)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params, opt_state = jax.tree.map(lambda new, old: jnp.where(learns, new, old), (params, opt_state),
                                         (state.params, state.opt_state))
        skipped = jnp.where(finite, 0, state.skipped + 1)
        metrics = metrics | {"grad_norm": norm, "skipped": 1.0 - finite, "no_signal": finite * (1.0 - learns)}
        return TrainState(state.step + 1, skipped, params, opt_state), metrics

    return jax.jit(step, donate_argnums=0)
