"""libra_jax: a generative judge of hard mathematics, trained and measured in JAX (arXiv 2507.21645)."""
