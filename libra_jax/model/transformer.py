"""The decoder: one NNX module, and pure functions over its parameters.

Params is a plain nested dict of arrays (float32 masters), the parameters of all layers stacked on axis 0; a matrix of a
layer may be layers.Adapted. The functions take the config first and are fit for jax.jit with it static:
`jax.jit(apply, static_argnums=0)`. The modules hold no state of their own between calls. Axis letters are those of
libra_jax/model/__init__.py.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from libra_jax.model import attention, layers, vocabulary
from libra_jax.model.cache import Cache, Where
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules

Params: TypeAlias = dict[str, Any]
C = TypeVar("C", bound=Cache | None)

_INPUT = "layer_input"
_POLICIES = jax.checkpoint_policies
_REMAT = {
    "dots": _POLICIES.save_from_both_policies(_POLICIES.dots_with_no_batch_dims_saveable,
                                              _POLICIES.save_only_these_names(attention.RESIDUAL)),
    "full": _POLICIES.nothing_saveable,
    "offload": _POLICIES.save_and_offload_only_these_names(
        names_which_can_be_saved=[], names_which_can_be_offloaded=[_INPUT], offload_src="device",
        offload_dst="pinned_host"),
}


class Decoder(nnx.Module):
    """Embedding, `num_layers` blocks under one scan, final norm, unembedding (tied or its own)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        shape = (config.vocab_size, config.model_size)
        self.embedding = layers.param(rngs, shape, ("vocabulary", "model"), 0.02)
        stacked = nnx.vmap(lambda rngs: layers.Block(config, rngs=rngs), in_axes=0, out_axes=0)
        self.blocks = stacked(rngs.fork(split=config.num_layers))
        self.final_norm = layers.RMSNorm(config, config.model_size, "norm")
        if not config.tie_embeddings:
            self.unembedding = layers.param(rngs, shape[::-1], ("model", "vocabulary"), config.model_size**-0.5)

    def hidden(self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array | None,
               cache: C, where: Where | None) -> tuple[jax.Array, C]:
        """tokens [B, T] -> normed last hidden states [B, T, D] in config.dtype, and the cache with this call's keys."""
        config, decoding = self.config, cache is not None and tokens.shape[1] == 1
        x = vocabulary.embed(config, self.embedding[...], tokens)
        if config.scale_embeddings:
            x = x * jnp.asarray(config.model_size**0.5, x.dtype)
        x = layers.stream(x, decoding)
        view = attention.View(segment_ids=segment_ids, window=None)
        table = layers.rope_table(config, positions)
        local = layers.rope_table(config, positions, local=True) if config.rope_local_theta else None
        graph, state = nnx.split(self.blocks)

        def block(carry: Any, inputs: Any) -> tuple[Any, None]:
            x, cache = carry
            x = checkpoint_name(x, _INPUT)
            state, layer, sliding = inputs
            here, seen = table, view
            if any(config.sliding_layers):
                seen = view._replace(window=jnp.where(sliding, config.sliding_window, 0))
                if local is not None:
                    here = tuple(jnp.where(sliding, a, b) for a, b in zip(local, table, strict=True))
            return nnx.merge(graph, state)(x, here, seen, cache, layer, where, decoding), None

        if config.remat != "none" and cache is None:
            block = jax.checkpoint(block, policy=_REMAT[config.remat], prevent_cse=False)
        sliding = np.asarray(config.sliding_layers or (False,) * config.num_layers)
        (x, cache), _ = jax.lax.scan(block, (x, cache), (state, np.arange(config.num_layers), sliding))
        return self.final_norm(x), cache

    def output_weight(self) -> jax.Array:
        """The weight of the logits: [V, D] where it is the embedding's, else [D, V]."""
        return self.embedding[...] if self.config.tie_embeddings else self.unembedding[...]


@functools.lru_cache(maxsize=64)
def _abstract(config: ModelConfig) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(params=0))))


def bind(config: ModelConfig, params: Params) -> Decoder:
    """The module with these parameters. ValueError names a parameter that is missing, unknown or of another shape."""
    graph, state = _abstract(config)
    wanted = dict(_paths(nnx.to_pure_dict(state)))
    given = dict(_paths(params))
    for path in wanted.keys() ^ given.keys():
        kind = "lacks" if path in wanted else "has an unknown"
        raise ValueError(f"the tree of parameters {kind} {'/'.join(path)!r} for family {config.family!r}")
    for path, value in given.items():
        if value.shape != wanted[path].shape:
            raise ValueError(f"parameter {'/'.join(path)!r} has shape {value.shape}, expected {wanted[path].shape}")
    return nnx.merge(graph, params)


def _paths(tree: Params, prefix: tuple[str, ...] = ()):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def init(config: ModelConfig, *, key: jax.Array) -> Params:
    """Fresh float32 parameters: normal with deviation 1/sqrt(inputs), residual outputs scaled by 1/sqrt(2 L)."""
    return _init(config, key)


@functools.partial(jax.jit, static_argnums=0)
def _init(config: ModelConfig, key: jax.Array) -> Params:
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key)), nnx.Param))


def shapes(config: ModelConfig) -> Params:
    """The tree of jax.ShapeDtypeStruct of init(config), without allocating anything."""
    return nnx.to_pure_dict(_abstract(config)[1])


def logical_axes(config: ModelConfig) -> Params:
    """The tree of Params with a tuple of logical axis names for each array (rules.py maps them to the mesh)."""
    state = _abstract(config)[1]
    tree: Params = {}
    for path, variable in nnx.to_flat_state(state):
        node = tree
        for name in path[:-1]:
            node = node.setdefault(str(name), {})
        axes = variable.get_metadata()["axes"]
        node[str(path[-1])] = ("layers", *axes) if path[0] == "blocks" else axes
    return tree


def shardings(config: ModelConfig, mesh: jax.sharding.Mesh) -> Params:
    """The tree of Params with a NamedSharding for each array; an axis that the mesh does not divide stays whole."""
    return jax.tree.map(lambda shape, axes: rules.sharding(mesh, axes, shape.shape), shapes(config),
                        logical_axes(config))


def apply(config: ModelConfig, params: Params, tokens: jax.Array, *, positions: jax.Array,
          segment_ids: jax.Array | None = None) -> jax.Array:
    """Logits [B, T, V] in float32 of the token after each of tokens [B, T].

    Attention is causal by index and stays within a segment (segment 0 is padding, seen by none).
    """
    decoder = bind(config, params)
    return _logits(config, decoder, decoder.hidden(tokens, positions, segment_ids, None, None)[0])


def extend(config: ModelConfig, params: Params, tokens: jax.Array, cache: Cache, where: Where
           ) -> tuple[jax.Array, Cache]:
    """Logits [B, T, V] of the token after each of tokens [B, T] at their places, and the cache with these written.

    A token sees its row's positions below its own, which the caller has filled, and those of this call up to its own.
    """
    decoder = bind(config, params)
    positions = where.first[:, None] + jnp.arange(tokens.shape[1])
    x, cache = decoder.hidden(tokens, positions, None, cache, where)
    return _logits(config, decoder, x), cache


def _logits(config: ModelConfig, decoder: Decoder, x: jax.Array) -> jax.Array:
    return rules.constrain(vocabulary.logits(config, decoder.output_weight(), x), ("batch", "time", "vocabulary"))


def token_logprobs(config: ModelConfig, params: Params, tokens: jax.Array, *, positions: jax.Array,
                   segment_ids: jax.Array | None = None, temperature: float | jax.Array = 1.0,
                   chunk: int = 0, wanted: jax.Array | None = None) -> jax.Array:
    """[B, T] float32: entry t = log p(tokens[t] | tokens before it in its segment), of logits / temperature.

    The first entry of a row and of each segment, padding (segment 0), and tokens of which `wanted` [B, T] is False are
    0, and cost no logits. `chunk` as in vocabulary.logprobs.
    """
    decoder = bind(config, params)
    x, _ = decoder.hidden(tokens, positions, segment_ids, None, None)
    inside = jnp.arange(tokens.shape[1]) > 0
    if segment_ids is not None:
        inside = inside & (segment_ids > 0) & (segment_ids == jnp.roll(segment_ids, 1, axis=1))
    inside = jnp.broadcast_to(inside, tokens.shape)
    inside = inside if wanted is None else inside & wanted
    # What stands at a position is of the token after it.
    scored = vocabulary.logprobs(config, decoder.output_weight(), x, jnp.roll(tokens, -1, axis=1), temperature, chunk,
                                 jnp.roll(inside, -1, axis=1))
    return jnp.roll(scored, 1, axis=1)


@functools.partial(jax.jit, static_argnums=0)
def cast(config: ModelConfig, params: Params) -> Params:
    """A copy with the matrices in config.dtype, as every product takes them; what norms scale by stays as it is."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if path[-1].key == "scale" else leaf.astype(config.dtype), params)


def num_parameters(config: ModelConfig) -> int:
    """How many numbers the parameters hold."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes(config)))
