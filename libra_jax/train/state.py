"""What a training run carries from step to step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig


class TrainState(NamedTuple):
    """`params` float32 masters; `opt_state` of optax, sharded like the parameters.

    int32 scalars: `step`, steps done; `skipped`, how many of the last ones in a row had no finite loss and gradient.
    """

    step: jax.Array
    skipped: jax.Array
    params: Any
    opt_state: Any


def create(config: ModelConfig, params: Any, optimizer: optax.GradientTransformation,
           mesh: jax.sharding.Mesh) -> TrainState:
    """The state before the first step: a copy of `params` laid out over the mesh by the rules table."""
    layout = transformer.shardings(config, mesh)
    # A copy, since the steps donate their state and the caller may still need what it gave.
    params = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=layout)(params)
    scalar = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    opt_layout = optax.tree_map_params(optimizer, lambda _, sharding: sharding, jax.eval_shape(optimizer.init, params),
                                       layout, transform_non_params=lambda _: scalar)
    opt_state = jax.jit(optimizer.init, out_shardings=opt_layout)(params)
    step, skipped = (jax.device_put(jnp.zeros((), jnp.int32), scalar) for _ in range(2))
    return TrainState(step=step, skipped=skipped, params=params, opt_state=opt_state)
