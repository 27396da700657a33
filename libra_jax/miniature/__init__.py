"""A tiny checkpoint, the arithmetic it solves and judges, and how it was made."""
