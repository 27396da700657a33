"""What a training run carries from step to step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from libra_jax.model import lora, transformer
from libra_jax.model.config import ModelConfig


class TrainState(NamedTuple):
    """`params` float32 masters (of a LoRA run its adapters); `opt_state` of optax, sharded like the parameters.

    int32 scalars: `step`, steps done; `skipped`, how many of the last ones in a row had no finite loss and gradient.
    In trees of the same form stand the arrays' shapes or shardings.
    """

    step: Any
    skipped: Any
    params: Any
    opt_state: Any


def abstract(config: ModelConfig, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh,
             adapters: lora.LoraConfig = lora.OFF) -> TrainState:
    """The state as jax.ShapeDtypeStructs with their shardings: moments lie where their parameters do.

    Of a LoRA run's `adapters` (rank above 0) it holds these alone.
    """
    if adapters.rank:
        params = jax.tree.map(_laid, lora.shapes(config, adapters), lora.shardings(config, adapters, mesh))
    else:
        params = jax.tree.map(_laid, transformer.shapes(config), transformer.shardings(config, mesh))
    scalar = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    moments = optax.tree_map_params(optimizer.init, lambda leaf, like: _laid(leaf, like.sharding),
                                    jax.eval_shape(optimizer.init, params), params,
                                    transform_non_params=lambda leaf: _laid(leaf, scalar))
    count = jax.ShapeDtypeStruct((), jnp.int32, sharding=scalar)
    return TrainState(step=count, skipped=count, params=params, opt_state=moments)


def _laid(leaf: jax.ShapeDtypeStruct, layout: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout)


def create(config: ModelConfig, params: Any, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh,
           adapters: lora.LoraConfig = lora.OFF) -> TrainState:
    """The state before the first step: a copy of `params` laid out over the mesh by the rules table."""
    layout = jax.tree.map(lambda leaf: leaf.sharding, abstract(config, optimizer, mesh, adapters))
    # A copy, since the steps donate their state and the caller may still need what it gave.
    params = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=layout.params)(params)
    opt_state = jax.jit(optimizer.init, out_shardings=layout.opt_state)(params)
    step, skipped = (jax.device_put(jnp.zeros((), jnp.int32), layout.step) for _ in range(2))
    return TrainState(step=step, skipped=skipped, params=params, opt_state=opt_state)
