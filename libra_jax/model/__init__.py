"""The decoder. Axis letters, used by every einsum and docstring of this package:

B batch, T time, S source (keys), N heads, K kv heads, G heads per kv head, H head size, D model, F feed-forward,
V vocabulary, L layers.
"""
