"""The shape of one decoder, and its Hugging Face config.json in both directions.

Families, by their `model_type`: "qwen2" (Qwen 2 and 2.5), "qwen3", "llama" (3, 3.1, 3.2, 3.3), "gemma2" and
"gemma3_text" (the text half of a "gemma3" checkpoint also reads as this). Others may be brought (families.py).
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, Literal

from libra_jax.model import families

FAMILIES = ("qwen2", "qwen3", "llama", "gemma2", "gemma3_text")
# What the gradient computes again of each layer: nothing; all but matrix products and attention; all; all, with the
# layers' inputs kept in host memory meanwhile.
Remat = Literal["none", "dots", "full", "offload"]
_ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM",
                  "gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}
_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_MAX_LENGTH = {"llama": 2048, "gemma2": 8192, "gemma3_text": 131072}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Scaling of rotary frequencies: "linear" (Gemma 3), "llama3" (Llama 3.1 on), "yarn" (Qwen beyond 32k), or "none".

    `attention_factor` 0 means YaRN's own, 0.1 ln(factor) + 1. Names are those of Hugging Face's rope_scaling.
    """

    kind: Literal["none", "linear", "llama3", "yarn"] = "none"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One decoder. Hashable, so that it may be a static argument of jit. Zero turns an optional part off.

    `sliding_layers` says for each layer whether it attends only to the last `sliding_window` positions (empty: none
    does); such layers use `rope_local_theta` unscaled where it is not 0. `query_scale` divides: scores are multiplied
    by query_scale ** -0.5 (0: head_size). `dtype` is that of the computation; parameters stay as they were given.
    `attention`: splash is the TPU's kernel, and its interpreter for tests on CPUs; xla runs everywhere.
    """

    family: str = "qwen3"
    vocab_size: int
    num_layers: int
    model_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    feedforward_size: int
    rope_theta: float = 10_000.0
    rope_local_theta: float = 0.0
    rope_scaling: RopeScaling = RopeScaling()
    tie_embeddings: bool = True
    qk_norm: bool = True
    attention_bias: bool = False
    output_bias: bool = False
    attention_softcap: float = 0.0
    final_softcap: float = 0.0
    query_scale: float = 0.0
    sliding_window: int = 0
    sliding_layers: tuple[bool, ...] = ()
    norm_eps: float = 1e-6
    norm_unit_offset: bool = False
    post_norms: bool = False
    scale_embeddings: bool = False
    activation: Literal["silu", "gelu_tanh"] = "silu"
    max_length: int = 32768
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"
    attention: Literal["xla", "splash", "splash_interpret"] = "xla"

    def __post_init__(self) -> None:
        _known(self.family, "ModelConfig.family")
        for name, allowed in (("dtype", ("float32", "bfloat16")),
                              ("remat", typing.get_args(Remat)), ("activation", ("silu", "gelu_tanh")),
                              ("attention", ("xla", "splash", "splash_interpret"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"ModelConfig.{name}={getattr(self, name)!r}: expected one of {', '.join(allowed)}")
        for name in ("vocab_size", "num_layers", "model_size", "num_heads", "num_kv_heads", "head_size",
                     "feedforward_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"ModelConfig.{name}={getattr(self, name)}: expected at least 1")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"ModelConfig.num_heads={self.num_heads} is not a multiple of num_kv_heads="
                             f"{self.num_kv_heads}")
        if self.head_size % 2:
            raise ValueError(f"ModelConfig.head_size={self.head_size}: rotary embeddings need an even number")
        if self.sliding_layers and len(self.sliding_layers) != self.num_layers:
            raise ValueError(f"ModelConfig.sliding_layers has {len(self.sliding_layers)} entries for "
                             f"num_layers={self.num_layers}; expected one for each layer, or none")
        if any(self.sliding_layers) and self.sliding_window < 1:
            raise ValueError("ModelConfig.sliding_layers is set, but sliding_window is 0; expected at least 1")


def from_hf(values: Mapping[str, Any]) -> ModelConfig:
    """Reads a parsed config.json (old and new layouts of rope fields). ValueError names what is not supported."""
    if isinstance(values.get("text_config"), Mapping):  # a multimodal checkpoint: its text half
        values = {**{k: values[k] for k in ("eos_token_id", "bos_token_id", "pad_token_id", "tie_word_embeddings")
                     if k in values}, **values["text_config"]}
    family = str(values.get("model_type"))
    brought = _known(family, "config.json: model_type")
    try:
        if brought is None:
            return _from_family(family, values)
        return dataclasses.replace(_from_family(brought.like, values), family=family, **brought.read(values))
    except KeyError as error:
        raise ValueError(f"config.json of model_type {family!r}: the field {error} is missing") from None


def _known(family: str, what: str) -> families.Family | None:
    """The family, where it is a brought one. ValueError for one that neither ships nor was brought."""
    brought = None if family in FAMILIES else families.find(family)
    name = brought.like if brought else family
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, 1, 0)
        raise ValueError(f"{what} {name!r} is not supported; the nearest is {near[0]!r} of {', '.join(FAMILIES)}; "
                         "CONTRIBUTING.md has how to bring another")
    return brought


def _from_family(family: str, values: Mapping[str, Any]) -> ModelConfig:
    gemma = family.startswith("gemma")
    # older Gemma files say "gelu" and mean its tanh form
    activation = "gelu_pytorch_tanh" if gemma else values.get("hidden_act") or "silu"
    if activation not in _ACTIVATIONS:
        raise ValueError(f"config.json: activation {activation!r}; expected one of {', '.join(_ACTIVATIONS)}")
    for name in ("mlp_bias", "use_bidirectional_attention"):
        if values.get(name):
            raise ValueError(f"config.json: {name}={values[name]!r} is not supported")
    if family == "gemma3_text":  # published files leave out what is transformers' default
        values = {"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, **values}
    num_heads, num_layers = values["num_attention_heads"], values["num_hidden_layers"]
    bias = bool(values.get("attention_bias", False))
    sliding = _sliding_layers(family, values)
    theta, local_theta, scaling = _rope(family, values)
    eos = values.get("eos_token_id")
    return ModelConfig(
        family=family,
        vocab_size=values["vocab_size"],
        num_layers=num_layers,
        model_size=values["hidden_size"],
        num_heads=num_heads,
        num_kv_heads=values.get("num_key_value_heads") or num_heads,
        head_size=values.get("head_dim") or {"qwen3": 128, "gemma2": 256, "gemma3_text": 256}.get(
            family, values["hidden_size"] // num_heads),
        feedforward_size=values["intermediate_size"],
        rope_theta=theta,
        rope_local_theta=local_theta,
        rope_scaling=scaling,
        tie_embeddings=bool(values.get("tie_word_embeddings", gemma)),
        qk_norm=family in ("qwen3", "gemma3_text"),
        attention_bias=bias or family == "qwen2",
        output_bias=bias and family != "qwen2",
        attention_softcap=float(values.get("attn_logit_softcapping", 50.0 if family == "gemma2" else None) or 0.0),
        final_softcap=float(values.get("final_logit_softcapping", 30.0 if family == "gemma2" else None) or 0.0),
        query_scale=float(values.get("query_pre_attn_scalar", 256)) if gemma else 0.0,
        sliding_window=int(values.get("sliding_window") or 4096) if any(sliding) else 0,
        sliding_layers=sliding if any(sliding) else (),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        norm_unit_offset=gemma,
        post_norms=gemma,
        scale_embeddings=gemma,
        activation=_ACTIVATIONS[activation],
        max_length=values.get("max_position_embeddings", _MAX_LENGTH.get(family, 32768)),
        bos_token_id=values.get("bos_token_id"),
        eos_token_ids=tuple(eos) if isinstance(eos, (list, tuple)) else () if eos is None else (eos,),
        pad_token_id=values.get("pad_token_id"),
    )


def _sliding_layers(family: str, values: Mapping[str, Any]) -> tuple[bool, ...]:
    layers = range(values["num_hidden_layers"])
    if values.get("layer_types"):
        unknown = sorted(set(values["layer_types"]) - {"sliding_attention", "full_attention"})
        if unknown:
            raise ValueError(f"config.json: layer_types holds {unknown[0]!r}; "
                             "expected sliding_attention or full_attention")
        return tuple(kind == "sliding_attention" for kind in values["layer_types"])
    if family.startswith("gemma"):
        pattern = 2 if family == "gemma2" else values.get("sliding_window_pattern") or 6
        return tuple(bool((layer + 1) % pattern) for layer in layers)
    if values.get("use_sliding_window") and values.get("sliding_window"):
        return tuple(layer >= values.get("max_window_layers", 28) for layer in layers)
    return tuple(False for _ in layers)


def _rope(family: str, values: Mapping[str, Any]) -> tuple[float, float, RopeScaling]:
    """(theta, theta of sliding layers or 0, scaling) from rope_theta + rope_scaling, or the newer rope_parameters."""
    given = values.get("rope_parameters") or {}
    full = given.get("full_attention", given) or {}
    scaling = {**(values.get("rope_scaling") or {}), **full}
    theta = scaling.get("rope_theta") or values.get("rope_theta") or (1e6 if family == "gemma3_text" else 1e4)
    local = 0.0
    if family == "gemma3_text":
        sliding = given.get("sliding_attention") or {}
        local = float(sliding.get("rope_theta") or values.get("rope_local_base_freq") or 1e4)
        if sliding.get("rope_type", "default") != "default":
            raise ValueError(f"config.json: rope_type {sliding['rope_type']!r} of sliding layers is not supported")
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return float(theta), local, RopeScaling()
    if kind not in ("linear", "llama3", "yarn") or scaling.get("mscale_all_dim"):
        raise ValueError(f"config.json: rope scaling {dict(scaling)} is not supported; expected linear, llama3 or yarn")
    names = {field.name for field in dataclasses.fields(RopeScaling)} - {"kind"}
    kept = {name: value for name, value in scaling.items() if name in names and value is not None}
    if kind != "linear":
        kept.setdefault("original_max_position_embeddings", values.get("max_position_embeddings", 8192))
    return float(theta), local, RopeScaling(kind=kind, **kept)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The config.json (as a dict) that transformers reads back to the same model; the inverse of from_hf."""
    brought = _known(config.family, "ModelConfig.family")
    if brought is not None:
        values = to_hf(dataclasses.replace(config, family=brought.like))
        return {**values, "architectures": [brought.architecture], "model_type": config.family, **brought.write(config)}
    gemma = config.family.startswith("gemma")
    values: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.model_size,
        "intermediate_size": config.feedforward_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_size,
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_dropout": 0.0,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids) if len(config.eos_token_ids) > 1 else next(
            iter(config.eos_token_ids), None),
        "pad_token_id": config.pad_token_id,
        "rope_theta": config.rope_theta,
        "rope_scaling": _rope_scaling(config.rope_scaling),
    }
    if gemma:
        values |= {"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": config.query_scale,
                   "attn_logit_softcapping": config.attention_softcap or None,
                   "final_logit_softcapping": config.final_softcap or None}
        if config.query_scale == int(config.query_scale):
            values["query_pre_attn_scalar"] = int(config.query_scale)
    else:
        values["hidden_act"] = "silu"
    if config.family != "qwen2":
        values["attention_bias"] = config.attention_bias
    if config.family == "gemma3_text":
        values["rope_local_base_freq"] = config.rope_local_theta
    if config.sliding_layers:
        values |= {"sliding_window": config.sliding_window, "use_sliding_window": True}
    if config.family != "llama":
        kinds = config.sliding_layers or (False,) * config.num_layers
        values["layer_types"] = ["sliding_attention" if kind else "full_attention" for kind in kinds]
    return values


def _rope_scaling(scaling: RopeScaling) -> dict[str, Any] | None:
    if scaling.kind == "none":
        return None
    names = {"linear": ("factor",),
             "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
             "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow")}[scaling.kind]
    values = {"rope_type": scaling.kind, **{name: getattr(scaling, name) for name in names}}
    if scaling.kind == "yarn" and scaling.attention_factor:
        values["attention_factor"] = scaling.attention_factor
    return values
