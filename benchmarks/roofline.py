"""The least seconds that decoding can take on a device whose memory bandwidth is the limit. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from libra_jax.model import flops
from libra_jax.model.config import ModelConfig

# Bytes a second by jax.Device.device_kind; NVIDIA's data sheets of the H100, H200, A100 and L4.
BANDWIDTH = {
    "NVIDIA H100 80GB HBM3": 3.35e12,
    "NVIDIA H200": 4.8e12,
    "NVIDIA A100-SXM4-80GB": 2.04e12,
    "NVIDIA L4": 0.3e12,
}
_BYTES = {"float32": 4, "bfloat16": 2}


def weight_bytes(config: ModelConfig) -> int:
    """Bytes of the matrices that one decoding step reads; the rows of the embedding and the norms are left out."""
    numbers = config.num_layers * flops.layer_weights(config) + config.vocab_size * config.model_size
    return numbers * _BYTES[config.dtype]


def slot_bytes(config: ModelConfig) -> int:
    """Bytes of keys and values that one token has in the caches of all layers."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_size * _BYTES[config.dtype]


def least_bytes(config: ModelConfig, prompt_lengths: Sequence[int], lengths: Sequence[int], num_slots: int) -> int:
    """Bytes that sampling `lengths` tokens after these prompts must read.

    Each step reads the weights once, and there are as many steps as full slots need, or the longest row if it is more.
    Token t of a prompt of p tokens (t from 0) reads the caches of p + t tokens.
    """
    num_steps = max(-(-sum(lengths) // num_slots), max(lengths))
    slots = sum(n * p + n * (n - 1) // 2 for p, n in zip(prompt_lengths, lengths, strict=True))
    return num_steps * weight_bytes(config) + slots * slot_bytes(config)
