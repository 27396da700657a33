"""The layers of the decoder: norm, rotary embedding, attention, gated feed-forward, and the block made of them.

Every parameter carries its logical axes as metadata; parallel/rules.py alone says where they lie on the mesh.
Axis letters are those of libra_jax/model/__init__.py.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from libra_jax.model import attention, paged
from libra_jax.model.attention import precision
from libra_jax.model.cache import Cache, Where
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules


def param(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], std: float) -> nnx.Param:
    """A float32 parameter with its logical axes: normal with this deviation."""
    return nnx.Param(std * jax.random.normal(rngs.params(), shape, jnp.float32), axes=axes)


def constant(shape: tuple[int, ...], axes: tuple[str, ...], value: float = 0.0) -> nnx.Param:
    """A float32 parameter with its logical axes that starts at one value (biases, norms)."""
    return nnx.Param(jnp.full(shape, value, jnp.float32), axes=axes)


def stream(x: jax.Array, decoding: bool, *, whole: bool = False) -> jax.Array:
    """Pins the residual stream x [B, T, D]: cut along T between products, `whole` rows into them; decoding: by D."""
    axes = ("rows", None, "features") if decoding else ("batch", "time" if whole else "stream", "activation")
    return rules.constrain(x, axes)


@functools.partial(jax.tree_util.register_dataclass, data_fields=("weight", "a", "b"), meta_fields=("scale",))
@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapted:
    """A matrix that stands for weight + scale * a b, where a [in..., R] and b [R, out...] are small (model/lora.py).

    It may lie in Params wherever `product` takes a matrix; of stacked layers each part has the layers on axis 0.
    """

    weight: jax.Array
    a: jax.Array
    b: jax.Array
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the matrix."""
        return self.weight.shape


def product(config: ModelConfig, x: jax.Array, weight: nnx.Param, axes: int = 1, cut: jax.Array | None = None
            ) -> jax.Array:
    """The last `axes` axes of x [B, T, ...] with the first ones of the weight, taken in x's dtype.

    An adapted matrix is never summed up: x W + scale (x a) b, so that no gradient is as large as W. `cut` is x as it
    lies in the residual stream: there x a is taken, so that its gradient needs no reduction of its own over devices.
    """
    matrix = weight.get_value()
    if not isinstance(matrix, Adapted):
        return _product(config, x, matrix, axes)
    low = rules.constrain(_product(config, x if cut is None else cut, matrix.a, axes), ("batch", "time", "rank"))
    return _product(config, x, matrix.weight, axes) + _product(config, low * matrix.scale, matrix.b, 1)


def _product(config: ModelConfig, x: jax.Array, matrix: jax.Array, axes: int) -> jax.Array:
    """On one device as a product of two matrices: for more axes XLA copies the operands of the gradient on CPUs."""
    matrix, exact = matrix.astype(x.dtype), precision(config)
    if rules.mesh() is not None:
        return jnp.tensordot(x, matrix, axes, precision=exact)
    inner, outer = matrix.shape[:axes], matrix.shape[axes:]
    y = jnp.matmul(x.reshape(-1, math.prod(inner)), matrix.reshape(math.prod(inner), -1), precision=exact)
    return y.reshape(*x.shape[:-axes], *outer)


class RMSNorm(nnx.Module):
    """x / rms(x) * w over the last axis, in float32; Gemma's form multiplies by (1 + w)."""

    def __init__(self, config: ModelConfig, size: int, axis: str):
        self.eps, self.unit_offset = config.norm_eps, config.norm_unit_offset
        self.scale = constant((size,), (axis,), 0.0 if self.unit_offset else 1.0)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., size] -> the same shape and dtype."""
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.eps)
        scale = self.scale[...].astype(jnp.float32)
        return (y * (1.0 + scale if self.unit_offset else scale)).astype(x.dtype)


def rope_frequencies(config: ModelConfig, *, local: bool = False) -> tuple[np.ndarray, float]:
    """Inverse frequencies [H/2] (radians a position) and the factor on cos and sin.

    Scaling as in transformers' modeling_rope_utils: linear; llama3 (Llama 3.1); yarn (arXiv 2309.00071). `local` gives
    the unscaled frequencies of Gemma 3's sliding layers.
    """
    size, scaling = config.head_size, config.rope_scaling
    theta = config.rope_local_theta if local else config.rope_theta
    inverse = 1.0 / theta ** (np.arange(0, size, 2, dtype=np.float64) / size)
    if local or scaling.kind == "none":
        return inverse.astype(np.float32), 1.0
    if scaling.kind == "linear":
        return (inverse / scaling.factor).astype(np.float32), 1.0
    length = scaling.original_max_position_embeddings
    if scaling.kind == "llama3":
        turns = length * inverse / (2 * math.pi)  # full turns within the original context
        smooth = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        smooth = np.clip(smooth, 0.0, 1.0)
        return ((1 - smooth) * inverse / scaling.factor + smooth * inverse).astype(np.float32), 1.0
    low, high = (size * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))
                 for turns in (scaling.beta_fast, scaling.beta_slow))
    low, high = max(math.floor(low), 0), min(math.ceil(high), size - 1)
    ramp = np.clip((np.arange(size // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
    factor = scaling.attention_factor or (0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0)
    return (inverse / scaling.factor * ramp + inverse * (1 - ramp)).astype(np.float32), factor


def rope_table(config: ModelConfig, positions: jax.Array, *, local: bool = False) -> tuple[jax.Array, jax.Array]:
    """cos and sin [B, T, 1, H/2] in float32 for positions [B, T]."""
    inverse, factor = rope_frequencies(config, local=local)
    angles = positions[..., None, None].astype(jnp.float32) * inverse
    return jnp.cos(angles) * factor, jnp.sin(angles) * factor


def rotate(x: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotary embedding of x [B, T, N, H] in float32; the two halves of H are a pair, as in Hugging Face weights."""
    cos, sin = table
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Attention(nnx.Module):
    """Grouped-query attention; keys and values are never repeated for the heads that share them."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        d, n, k, h = config.model_size, config.num_heads, config.num_kv_heads, config.head_size
        std = d**-0.5
        self.q = param(rngs, (d, n, h), ("model", "heads", "head"), std)
        self.k = param(rngs, (d, k, h), ("model", "kv_heads", "head"), std)
        self.v = param(rngs, (d, k, h), ("model", "kv_heads", "head"), std)
        self.o = param(rngs, (n, h, d), ("heads", "head", "model"), (2 * config.num_layers * n * h) ** -0.5)
        if config.attention_bias:
            self.q_bias = constant((n, h), ("heads", "head"))
            self.k_bias = constant((k, h), ("kv_heads", "head"))
            self.v_bias = constant((k, h), ("kv_heads", "head"))
        if config.output_bias:
            self.o_bias = constant((d,), ("norm",))
        if config.qk_norm:
            self.q_norm = RMSNorm(config, h, "head")
            self.k_norm = RMSNorm(config, h, "head")

    def _project(self, x: jax.Array, cut: jax.Array, weight: nnx.Param, bias: nnx.Param | None, heads: str
                 ) -> jax.Array:
        y = product(self.config, x, weight, cut=cut)
        y = rules.constrain(y, ("batch", "time", heads, "head"))
        return y if bias is None else y + bias[...].astype(x.dtype)

    def __call__(self, x: jax.Array, table, view: attention.View, cache: Cache | None, layer, where: Where | None,
                 decoding: bool) -> tuple[jax.Array, Cache | None]:
        """x [B, T, D] -> ([B, T, D], cache). Without a cache x attends to itself; with one, to its rows' pages."""
        config = self.config
        bias = config.attention_bias
        cut, x = x, stream(x, decoding, whole=True)
        q = self._project(x, cut, self.q, self.q_bias if bias else None, "heads")
        k = self._project(x, cut, self.k, self.k_bias if bias else None, "kv_heads")
        v = self._project(x, cut, self.v, self.v_bias if bias else None, "kv_heads")
        if config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, table), rotate(k, table)
        if cache is None or where is None:
            out = attention.attend(config, q, k, v, view)
        else:
            out, cache = paged.attend(config, q, k, v, cache, layer, where, view.window)
        out = rules.constrain(out, ("batch", "time", "heads", "head"))
        out = product(config, out, self.o, 2)
        return out + self.o_bias[...].astype(x.dtype) if config.output_bias else out, cache


class FeedForward(nnx.Module):
    """down(activation(gate x) * up x)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        d, f = config.model_size, config.feedforward_size
        self.gate = param(rngs, (d, f), ("model", "feedforward"), d**-0.5)
        self.up = param(rngs, (d, f), ("model", "feedforward"), d**-0.5)
        self.down = param(rngs, (f, d), ("feedforward", "model"), (2 * config.num_layers * f) ** -0.5)

    def __call__(self, x: jax.Array, decoding: bool) -> jax.Array:
        """x [B, T, D] -> [B, T, D]."""
        cut, x = x, stream(x, decoding, whole=True)
        gate = product(self.config, x, self.gate, cut=cut)
        up = product(self.config, x, self.up, cut=cut)
        gate = jax.nn.silu(gate) if self.config.activation == "silu" else jax.nn.gelu(gate, approximate=True)
        hidden = rules.constrain(gate * up, ("rows" if decoding else "batch", "time", "feedforward"))
        return product(self.config, hidden, self.down)


class Block(nnx.Module):
    """Attention and feed-forward, each normed before and, in Gemma, after; each added to the residual stream."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.post_norms = config.post_norms
        self.attention_norm = RMSNorm(config, config.model_size, "norm")
        self.attention = Attention(config, rngs=rngs)
        self.feedforward_norm = RMSNorm(config, config.model_size, "norm")
        self.feedforward = FeedForward(config, rngs=rngs)
        if config.post_norms:
            self.attention_post_norm = RMSNorm(config, config.model_size, "norm")
            self.feedforward_post_norm = RMSNorm(config, config.model_size, "norm")

    def __call__(self, x: jax.Array, table, view: attention.View, cache: Cache | None, layer, where: Where | None,
                 decoding: bool) -> tuple[jax.Array, Cache | None]:
        """As Attention.__call__, over the whole block: x [B, T, D] -> [B, T, D]."""
        y, cache = self.attention(self.attention_norm(x), table, view, cache, layer, where, decoding)
        x = x + (self.attention_post_norm(y) if self.post_norms else y)
        x = stream(x, decoding)
        y = self.feedforward(self.feedforward_norm(x), decoding)
        x = x + (self.feedforward_post_norm(y) if self.post_norms else y)
        return stream(x, decoding), cache
