"""What a training step holds and takes, with all parameters and with LoRA adapters alone, in turns on the same batch.

    python benchmarks/adapters.py                                     # the miniature's shape, seconds
    python benchmarks/adapters.py --model_size=512 --num_layers=8     # 40 million parameters, minutes

The step is that of `libra sft` on full rows of random tokens. State: parameters, moments and what is frozen, as it lies
on the device. Temporaries are the compiler's: activations and gradients. Times are the median and the fastest of steps
that take turns, so that other work on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Sequence

import jax
import numpy as np

from libra_jax.data import packing
from libra_jax.miniature import arithmetic
from libra_jax.model import hf, lora, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import mesh as meshes
from libra_jax.stages import sft
from libra_jax.train import optimizer as optimizers
from libra_jax.train import run as training
from libra_jax.train import state as states
from libra_jax.train import step as steps

_MIB = 2**20


def shape(given: argparse.Namespace) -> ModelConfig:
    """The miniature's config with the width and depth asked for."""
    model = hf.read_config(pathlib.Path(arithmetic.__file__).parent / "checkpoint")
    return dataclasses.replace(model, model_size=given.model_size, feedforward_size=3 * given.model_size,
                               num_layers=given.num_layers)


class Side:
    """One way to train: its state, and its compiled step."""

    def __init__(self, model: ModelConfig, config: sft.Config, batch: dict, mesh: jax.sharding.Mesh):
        how = config.train
        self.batch, self.number = batch, lora.num_parameters(model, how.lora) or transformer.num_parameters(model)
        params = transformer.init(model, key=jax.random.key(0))
        self.frozen = [params] if how.lora.rank else []
        trained = lora.init(model, how.lora, mesh, seed=0) if how.lora.rank else params
        optimizer = optimizers.make(how.optimizer, how.num_steps)
        self.state = states.create(model, trained, optimizer, mesh, how.lora)
        step = steps.make(training.objective(sft.objective(config)(model), how.lora), optimizer)
        self.step = step.lower(self.state, batch, *self.frozen).compile()
        self.held = sum(leaf.nbytes for leaf in jax.tree.leaves((self.state, self.frozen)))
        self.temporaries = self.step.memory_analysis().temp_size_in_bytes
        self.seconds: list[float] = []

    def once(self) -> None:
        """A step, timed."""
        start = time.perf_counter()
        self.state, metrics = self.step(self.state, self.batch, *self.frozen)
        jax.block_until_ready(metrics)
        self.seconds.append(time.perf_counter() - start)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, value in (("model_size", 96), ("num_layers", 4), ("rank", 8), ("rows", 16), ("length", 256),
                        ("repeats", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args(argv)
    model, mesh = shape(given), meshes.make(meshes.MeshConfig(), jax.devices()[:1])
    tokens = np.random.default_rng(0).integers(3, model.vocab_size, given.length)
    rows = packing.pack([(tokens, np.ones(given.length, np.int32))] * given.rows, given.length)
    batch = steps.put(rows | {"denominator": np.float32(given.rows * given.length)}, mesh)
    sides = {}
    with jax.set_mesh(mesh):
        for name, rank in (("all", 0), (f"rank {given.rank}", given.rank)):
            how = training.TrainConfig(num_steps=given.repeats + 1, lora=lora.LoraConfig(rank=rank))
            sides[name] = Side(model, sft.Config(train=how), batch, mesh)
        for _ in range(given.repeats + 1):
            for side in sides.values():
                side.once()
    print(f"{transformer.num_parameters(model):,} parameters, {given.rows} rows of {given.length} tokens, float32, "
          f"{jax.devices()[0].platform}, {given.repeats} steps each after one")
    print("| trained | numbers | state, MiB | temporaries, MiB | ms a step, median | fastest |")
    print("|---|---|---|---|---|---|")
    for name, side in sides.items():
        times = 1000 * np.array(side.seconds[1:])
        print(f"| {name} | {side.number:,} | {side.held / _MIB:.1f} | {side.temporaries / _MIB:.1f} | "
              f"{np.median(times):.0f} | {times.min():.0f} |")


if __name__ == "__main__":
    main()
