"""State, step, loop, optimizer, checkpoints and metrics of a training run."""
