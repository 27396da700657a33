"""Floating-point operations of the decoder by formula; a compiler's own count leaves out loops and kernels.

A product of [m, k] and [k, n] is 2 m k n. Norms, softmax and rotations are left out (below 1 % at these sizes). As in
PaLM's appendix B (arXiv 2204.02311), but attention is causal: a token sees half of its row on average.
"""

from __future__ import annotations

from libra_jax.model.config import ModelConfig


def layer_weights(config: ModelConfig) -> int:
    """Numbers in the matrices of one layer."""
    heads = config.head_size * (2 * config.num_heads + 2 * config.num_kv_heads)
    return config.model_size * (heads + 3 * config.feedforward_size)


def forward(config: ModelConfig, num_tokens: int, keys: float, *, logits: bool = True) -> float:
    """One pass of `num_tokens` tokens that see `keys` keys each, with or without the logits of each."""
    weights = config.num_layers * layer_weights(config) + logits * config.model_size * config.vocab_size
    attention = 2 * config.num_layers * config.num_heads * config.head_size * keys  # scores, and their sum of values
    return 2.0 * num_tokens * (weights + attention)


def train(config: ModelConfig, num_tokens: int, length: int, adapters: int = 0) -> float:
    """Model FLOPs of a step on rows of `length`: forward, and twice that backward; recomputation is not counted.

    With `adapters` (so many numbers of them) the model's matrices have no gradient, which spares one of the three.
    """
    every = 3 * forward(config, num_tokens, length / 2)
    return every - forward(config, num_tokens, 0) + 6.0 * num_tokens * adapters if adapters else every
