"""Low-rank adaptation (LoRA, arXiv 2106.09685): of some matrices W only a and b of W + (alpha / rank) a b are trained.

Adapters are a small tree beside Params, {"attention": {"q": {"a": [L, in..., R], "b": [L, R, out...]}, ...}}, float32.
`join` puts them into Params, where layers.product uses them as they are; `merge` sums them up. R: the rank.

Deviations from the paper: a has the deviation 1/sqrt(inputs) (it says Gaussian, its code He-uniform), no dropout.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.model.layers import Adapted
from libra_jax.model.transformer import Params
from libra_jax.parallel import rules

# Matrix -> its part of a block, and how many of its axes are inputs.
TARGETS = {"q": ("attention", 1), "k": ("attention", 1), "v": ("attention", 1), "o": ("attention", 2),
           "gate": ("feedforward", 1), "up": ("feedforward", 1), "down": ("feedforward", 1)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Attributes:
    rank: of the adapters; 0: none, every parameter is trained.
    alpha: adapters are scaled by alpha / rank.
    targets: which matrices of each layer have one: q, k, v, o of attention; gate, up, down of the feed-forward.
    """

    rank: int = 0
    alpha: float = 32.0
    targets: tuple[str, ...] = tuple(TARGETS)

    def __post_init__(self) -> None:
        if self.rank < 0 or not 0 < self.alpha < math.inf:
            raise ValueError(f"lora.rank={self.rank}, alpha={self.alpha}: expected a rank of at least 1 (0 for no "
                             "adapters) and an alpha above 0")
        for name in self.targets:
            if name not in TARGETS:
                near = difflib.get_close_matches(name, TARGETS, 1, 0)[0]
                raise ValueError(f"lora.targets holds {name!r}: expected some of {', '.join(TARGETS)}; the nearest is "
                                 f"{near!r}")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"lora.targets={','.join(self.targets)!r}: expected each of its matrices once, and at "
                             f"least one of {', '.join(TARGETS)}")

    @property
    def scale(self) -> float:
        """What a b is multiplied by."""
        return self.alpha / self.rank


OFF = LoraConfig()


def _each(lora: LoraConfig, make: Callable[[str, str, int], dict[str, Any]]) -> dict[str, Any]:
    """The tree of make(part of a block, matrix, how many input axes) for each target, in the order of TARGETS."""
    tree: dict[str, Any] = {}
    for name, (part, inputs) in TARGETS.items():
        if name in lora.targets:
            tree.setdefault(part, {})[name] = make(part, name, inputs)
    return tree


def shapes(config: ModelConfig, lora: LoraConfig) -> dict[str, Any]:
    """The tree of jax.ShapeDtypeStruct of the adapters."""
    blocks = transformer.shapes(config)["blocks"]

    def pair(part: str, name: str, inputs: int) -> dict[str, jax.ShapeDtypeStruct]:
        layers, *shape = blocks[part][name].shape
        return {"a": jax.ShapeDtypeStruct((layers, *shape[:inputs], lora.rank), jnp.float32),
                "b": jax.ShapeDtypeStruct((layers, lora.rank, *shape[inputs:]), jnp.float32)}

    return _each(lora, pair)


def shardings(config: ModelConfig, lora: LoraConfig, mesh: jax.sharding.Mesh) -> dict[str, Any]:
    """The tree of a NamedSharding for each adapter: its axes lie as those of its matrix do, the rank's whole."""
    blocks = transformer.logical_axes(config)["blocks"]

    def pair(part: str, name: str, inputs: int) -> dict[str, tuple[str, ...]]:
        layers, *axes = blocks[part][name]
        return {"a": (layers, *axes[:inputs], "rank"), "b": (layers, "rank", *axes[inputs:])}

    return jax.tree.map(lambda shape, axes: rules.sharding(mesh, axes, shape.shape), shapes(config, lora),
                        _each(lora, pair))


def init(config: ModelConfig, lora: LoraConfig, mesh: jax.sharding.Mesh, *, seed: int) -> dict[str, Any]:
    """Adapters laid out over `mesh`: a normal with deviation 1/sqrt(inputs), b zero, so that they change nothing."""
    def make() -> dict[str, Any]:
        tree = shapes(config, lora)
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        return structure.unflatten([
            jax.random.normal(key, leaf.shape, leaf.dtype) * math.prod(leaf.shape[1:-1]) ** -0.5
            if path[-1].key == "a" else jnp.zeros(leaf.shape, leaf.dtype)
            for key, (path, leaf) in zip(keys, leaves, strict=True)])

    return jax.jit(make, out_shardings=shardings(config, lora, mesh))()


def join(params: Params, adapters: dict[str, Any], lora: LoraConfig) -> Params:
    """`params` with Adapted matrices, which share the arrays given."""
    blocks = dict(params["blocks"])
    for part, pairs in adapters.items():
        blocks[part] = blocks[part] | {name: Adapted(weight=blocks[part][name], **pair, scale=lora.scale)
                                       for name, pair in pairs.items()}
    return params | {"blocks": blocks}


def merge(params: Params) -> Params:
    """`params` with each Adapted matrix summed up in float32, in the matrix's dtype; others as they are."""
    return jax.tree.map(lambda leaf: _summed(leaf) if isinstance(leaf, Adapted) else leaf, params,
                        is_leaf=lambda leaf: isinstance(leaf, Adapted))


@jax.jit
def _summed(adapted: Adapted) -> jax.Array:
    def one(layer: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        weight, a, b = layer
        change = jnp.tensordot(a, b, 1, precision=jax.lax.Precision.HIGHEST)
        return (weight.astype(jnp.float32) + adapted.scale * change).astype(weight.dtype)

    return jax.lax.map(one, (adapted.weight, adapted.a, adapted.b))  # so that a layer at a time is in float32


def num_parameters(config: ModelConfig, lora: LoraConfig) -> int:
    """How many numbers the adapters hold."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(config, lora))) if lora.rank else 0
