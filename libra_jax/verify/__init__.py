"""Answer extraction and equivalence by rules; no JAX."""
