"""Direct preference optimisation of a policy on pairs that a judge ordered: checkpoint + PreferencePair -> checkpoint.

    libra dpo --workdir=DIR --config.checkpoint=FOLDER --config.pairs=pairs.jsonl

On several hosts each holds all pairs and feeds its own share of the rows of a batch.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.data import tasks
from libra_jax.judging.prompt import load_template
from libra_jax.model import card, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.objectives import dpo
from libra_jax.parallel import mesh as meshes
from libra_jax.records import PreferencePair
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import run as training
from libra_jax.train import step as steps
from libra_jax.train.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    checkpoint: the policy, which is its own reference; folder in Hugging Face format.
    pairs: JSON lines of PreferencePair.
    template: a name in judging/prompt.py.
    sequence_length: tokens of a response with its question; longer pairs are left out and counted.
    batch_size: pairs a step.
    beta: strength of the tie to the reference.
    """

    checkpoint: str = ""
    pairs: str = ""
    template: str = "libra"
    sequence_length: int = 4096
    batch_size: int = 16
    beta: float = 0.1
    train: training.TrainConfig = training.TrainConfig(optimizer=OptimizerConfig(learning_rate=5e-7))


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns counts and the last metrics. ValueError when no pair fits."""
    runs.need(config, "checkpoint", "pairs")
    training.check_rows(config.batch_size, config.train, "batch_size")
    words, template = tokenizers.load(config.checkpoint), load_template(config.template)
    pairs, broken = runs.read(config.pairs, PreferencePair, workdir)
    fitting, too_long = [], 0
    for pair in pairs:
        talks = [chat.render(words, template.solving_target(pair.question, text))
                 for text in (pair.chosen, pair.rejected)]
        if max(len(talk.tokens) for talk in talks) > config.sequence_length:
            too_long += 1
        else:
            fitting.append(talks)
    if not fitting:
        raise ValueError(f"{config.pairs}: no pair of at most sequence_length={config.sequence_length} tokens")
    rows = to_rows(fitting, config.train)
    shares, own = meshes.shares(config.batch_size, meshes.make(config.train.mesh))
    mine = shares[own]
    reference: list[np.ndarray] = []  # of all pairs

    def prepare(model: ModelConfig, params: Any, mesh: jax.sharding.Mesh) -> None:
        whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())  # any host may feed any pair later
        score = jax.jit(lambda params, part: summed(model, params, part, config.train.logit_chunk), out_shardings=whole)
        for start in range(0, len(fitting), config.batch_size):  # one shape alone
            part = {name: value[(start + mine) % len(fitting)] for name, value in rows.items()}
            reference.append(np.asarray(score(params, steps.put(part, mesh))))

    def batch_at(number: int, params: Any) -> dict:
        del params
        chosen = tasks.batch_indices(config.train.seed, number, config.batch_size, len(fitting))[mine]
        batch = {name: value[chosen] for name, value in rows.items()}
        return batch | {"reference": np.concatenate(reference)[chosen], "denominator": np.float32(config.batch_size)}

    def loss_fn(model: ModelConfig) -> steps.LossFn:
        def loss(params, batch):
            ours = summed(model, params, batch, config.train.logit_chunk)
            return dpo.loss(ours[:, 0], ours[:, 1], batch["reference"][:, 0], batch["reference"][:, 1],
                            beta=config.beta, denominator=batch["denominator"])
        return loss

    last = training.fit(config, loss_fn, batch_at, "dpo", workdir, inputs=("checkpoint", "pairs"), prepare=prepare,
                        about=card.Card(kind="policy", template=template, data={"pairs": len(fitting)}))
    summary = {"pairs": len(fitting), "too_long": too_long, "broken_lines": broken, **last,
               "path": str(workdir / "export")}
    runs.report(summary)
    return summary


def to_rows(talks: list[list[chat.Rendered]], config: training.TrainConfig) -> dict[str, np.ndarray]:
    """[pairs, 2, T] int32 tokens and segment_ids and bool loss_mask; index 0 of axis 1 is the chosen response."""
    longest = max(len(talk.tokens) for pair in talks for talk in pair)
    shape = (len(talks), 2, training.round_up(longest, config))
    rows = {"tokens": np.zeros(shape, np.int32), "segment_ids": np.zeros(shape, np.int32),
            "loss_mask": np.zeros(shape, bool)}
    for place, pair in enumerate(talks):
        for side, talk in enumerate(pair):
            size = len(talk.tokens)
            rows["tokens"][place, side, :size] = talk.tokens
            rows["loss_mask"][place, side, :size] = talk.loss_mask
            rows["segment_ids"][place, side, :size] = 1
    return rows


def summed(model: ModelConfig, params: Any, rows: dict, chunk: int = 0) -> jax.Array:
    """[pairs, 2] float32: the summed log-probability of each response, its stop token included."""
    pairs, sides, length = rows["tokens"].shape
    positions = jnp.broadcast_to(jnp.arange(length), (pairs * sides, length))
    logprobs = transformer.token_logprobs(model, params, rows["tokens"].reshape(-1, length), positions=positions,
                                          segment_ids=rows["segment_ids"].reshape(-1, length), chunk=chunk,
                                          wanted=rows["loss_mask"].reshape(-1, length))
    return logprobs.sum(axis=1).reshape(pairs, sides)


def main(argv=None) -> int:
    """`libra dpo`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
