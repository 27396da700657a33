"""Shapes of published checkpoints, for plans and tests without their files (their config.json on Hugging Face)."""

from __future__ import annotations

from libra_jax.model.config import ModelConfig

PUBLISHED = {
    "Qwen/Qwen2.5-32B": ModelConfig(
        family="qwen2", vocab_size=152064, num_layers=64, model_size=5120, num_heads=40, num_kv_heads=8, head_size=128,
        feedforward_size=27648, rope_theta=1e6, tie_embeddings=False, qk_norm=False, attention_bias=True, norm_eps=1e-5,
        max_length=131072),
    "Qwen/Qwen3-8B": ModelConfig(
        family="qwen3", vocab_size=151936, num_layers=36, model_size=4096, num_heads=32, num_kv_heads=8, head_size=128,
        feedforward_size=12288, rope_theta=1e6, tie_embeddings=False, max_length=40960),
    "Qwen/Qwen3-1.7B": ModelConfig(
        family="qwen3", vocab_size=151936, num_layers=28, model_size=2048, num_heads=16, num_kv_heads=8, head_size=128,
        feedforward_size=6144, rope_theta=1e6, max_length=40960),
}
