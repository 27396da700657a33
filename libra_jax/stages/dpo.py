"""DPO of a policy on pairs of responses that a judge ordered: checkpoint + PreferencePair -> checkpoint.

    libra dpo --workdir=DIR --config.checkpoint=FOLDER --config.pairs=pairs.jsonl

On several hosts each holds all pairs and feeds its own share of the rows of a batch.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.command import entry, lengths
from libra_jax.data import tasks
from libra_jax.judging.prompt import load_template
from libra_jax.learning import looks
from libra_jax.model import card, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.objectives import dpo
from libra_jax.parallel import mesh as meshes
from libra_jax.records import PreferencePair
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import metrics, preemption, watching
from libra_jax.train import run as training
from libra_jax.train import step as steps
from libra_jax.train.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    checkpoint: the policy, which is its own reference; folder in Hugging Face format.
    pairs: JSON lines of PreferencePair.
    share: the part of the pairs that is learned from, the first ones of the file: to see what more of them are worth.
    template: a name in judging/prompt.py.
    sequence_length: tokens of a response with its question; longer pairs are left out and counted.
    batch_size: pairs a step.
    beta: strength of the tie to the reference.
    held_out: JSON lines of PreferencePair of other problems, compared while the run goes on; "": none.
    watch: when that is (learning/looks.py); nothing is drawn, so that num_samples, seed and thoughts stay as they are.
    train: how long, on which mesh, and with which optimizer (train/run.py).
    """

    checkpoint: Annotated[str, configs.Checkpoint()] = ""
    pairs: Annotated[str, configs.File(PreferencePair)] = ""
    share: float = 1.0
    template: str = "libra"
    sequence_length: int = 4096
    batch_size: int = 16
    beta: float = 0.1
    held_out: Annotated[str, configs.File(PreferencePair)] = ""
    watch: looks.WatchConfig = looks.WatchConfig()
    train: training.TrainConfig = training.TrainConfig(optimizer=OptimizerConfig(learning_rate=5e-7))


def check(config: Config) -> None:
    """ValueError for a path that is missing, a template that is none, or settings that cannot be on these devices."""
    runs.need(config, "checkpoint", "pairs")
    load_template(config.template)
    training.check(config.batch_size, config.train, "batch_size")


def look(config: Config) -> list[str]:
    """For --dry_run: the devices, and the lengths of the first chosen responses. ValueError where none fits."""
    return [lengths.devices(config.train.mesh), lengths.prompts(
        config, PreferencePair, config.pairs, longest=config.sequence_length, limit="sequence_length",
        ask=lambda template, each: template.solving_target(each.question, each.chosen))]


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns counts and the last metrics. ValueError when no pair fits."""
    check(config)
    words, template = tokenizers.load(config.checkpoint), load_template(config.template)
    given, broken = runs.read(config.pairs, PreferencePair, workdir)
    given = first(given, config.share)

    def rendered(pairs: Sequence[PreferencePair]) -> list[list[chat.Rendered]]:
        every = [[chat.render(words, template.solving_target(pair.question, text))
                  for text in (pair.chosen, pair.rejected)] for pair in pairs]
        return [talks for talks in every if max(len(talk.tokens) for talk in talks) <= config.sequence_length]

    fitting = rendered(given)
    if not fitting:
        raise ValueError(f"{config.pairs}: no pair of at most sequence_length={config.sequence_length} tokens")
    rows = to_rows(fitting, config.train)
    held_out = looks.pairs_of(config.held_out, config.watch, {pair.problem_id for pair in given},
                              lambda pair: bool(rendered([pair])), workdir, longest=config.sequence_length)
    watched = to_rows(rendered(held_out), config.train) if held_out else {}
    shares, own = meshes.shares(config.batch_size, meshes.make(config.train.mesh))
    mine = shares[own]
    scorer = Scorer(config, mine)
    reference: dict[str, np.ndarray] = {}  # of all pairs

    def prepare(model: ModelConfig, params: Any, mesh: jax.sharding.Mesh) -> None:
        scorer.bind(model, mesh)
        reference["trained"] = scorer(params, rows)
        if held_out:
            reference["held_out"] = scorer(params, watched)

    def batch_at(number: int, params: Any) -> dict:
        del params
        chosen = tasks.batch_indices(config.train.seed, number, config.batch_size, len(fitting))[mine]
        batch = {name: value[chosen] for name, value in rows.items()}
        return batch | {"reference": reference["trained"][chosen], "denominator": np.float32(config.batch_size)}

    def look(step: int, params: Any, before: watching.Rows) -> Mapping[str, float]:
        found = {}
        if held_out:
            gained = scorer(params, watched) - reference["held_out"]
            found = looks.compared(held_out, gained[:, 0] - gained[:, 1], config.beta)
        return looks.looked(workdir, before, step, found, config.watch.patience)

    watch = look if held_out or config.watch.every else None
    last = training.fit(config, objective(config), batch_at, "dpo", workdir, inputs=("checkpoint", "pairs", "held_out"),
                        prepare=prepare, watch=watch, watch_every=config.watch.every,
                        about=card.Card(kind="policy", template=template, data={"pairs": len(fitting)}))
    if watch:
        looks.draw(workdir, metrics.read(workdir / "metrics.jsonl"))
    summary = {"pairs": len(fitting), "too_long": len(given) - len(fitting), "broken_lines": broken, **last,
               "path": str(workdir / "export")}
    runs.report(summary)
    return summary


def objective(config: Config) -> Callable[[ModelConfig], steps.LossFn]:
    """The loss of a step for a model, of `to_rows` of a batch, its `reference` [pairs, 2] and a `denominator`."""
    def for_model(model: ModelConfig) -> steps.LossFn:
        def loss(params, batch):
            ours = summed(model, params, batch, config.train.logit_chunk)
            return dpo.loss(ours[:, 0], ours[:, 1], batch["reference"][:, 0], batch["reference"][:, 1],
                            beta=config.beta, denominator=batch["denominator"])
        return loss

    return for_model


class Scorer:
    """`summed` of any number of pairs, a batch at a time; each host feeds its rows `mine` of a batch, and has all."""

    def __init__(self, config: Config, mine: np.ndarray):
        self._config, self._mine = config, mine

    def bind(self, model: ModelConfig, mesh: jax.sharding.Mesh) -> None:
        """Before the first call: of this model, on this mesh."""
        whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())  # any host may feed any pair later
        self._mesh = mesh
        self._score = jax.jit(lambda params, part: summed(model, params, part, self._config.train.logit_chunk),
                              out_shardings=whole)

    def __call__(self, params: Any, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """[pairs, 2] float32."""
        number, parts = len(rows["tokens"]), []
        for start in range(0, number, self._config.batch_size):  # one shape alone
            preemption.look()
            part = {name: value[(start + self._mine) % number] for name, value in rows.items()}
            parts.append(np.asarray(self._score(params, steps.put(part, self._mesh))))
        return np.concatenate(parts)[:number]


def first(pairs: Sequence[PreferencePair], share: float) -> Sequence[PreferencePair]:
    """The first `share` of the pairs, to the nearest whole number. ValueError for a share that gives none, or above 1.
    """
    number = round(share * len(pairs))
    if not 0 < share <= 1 or not number:
        raise ValueError(f"share={share} of {len(pairs)} pairs: expected above 0, up to 1, and at least one pair")
    return pairs[:number]


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
    return entry.main(run, Config(), argv, check=check, writes=training.WRITES, look=look)


if __name__ == "__main__":
    raise SystemExit(main())
