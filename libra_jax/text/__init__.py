"""Tokenizers and chat rendering; no JAX."""
