"""Prompts, verdicts, V2V curation and rewards; no JAX."""
