"""Supervised fine-tuning of a judge on kept judgements: checkpoint + Judgement -> checkpoint.

    libra sft --workdir=DIR --config.checkpoint=FOLDER --config.examples=train.jsonl --config.kept=kept.jsonl

Writes export/ (Hugging Face format), metrics.jsonl, tensorboard/ and checkpoints/. A killed run goes on bit for bit.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.data import packing, tasks
from libra_jax.judging.prompt import load_template
from libra_jax.model import transformer
from libra_jax.objectives import sft
from libra_jax.records import Judgement, JudgingExample
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import optimizer as optimizers
from libra_jax.train import run as training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    checkpoint: folder in Hugging Face format.
    examples: JSON lines of JudgingExample.
    kept: JSON lines of Judgement on these examples, as `libra reject` keeps them.
    template: a name in judging/prompt.py.
    sequence_length: tokens of a packed row; longer conversations are left out and counted.
    batch_size: rows a step.
    """

    checkpoint: str = ""
    examples: str = ""
    kept: str = ""
    template: str = "libra"
    sequence_length: int = 4096
    batch_size: int = 16
    train: training.TrainConfig = training.TrainConfig(optimizer=optimizers.OptimizerConfig(learning_rate=1e-5))


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns counts and the last metrics. ValueError names what is missing."""
    runs.need(config, "checkpoint", "examples", "kept")
    training.check_rows(config.batch_size, config.train, "batch_size")
    words, template = tokenizers.load(config.checkpoint), load_template(config.template)
    given, broken = runs.read(config.examples, JudgingExample, workdir)
    kept_judgements, also_broken = runs.read(config.kept, Judgement, workdir)
    examples = {example.id: example for example in given}
    rendered, too_long = [], 0
    for kept in kept_judgements:
        if kept.example_id not in examples:
            raise ValueError(f"{config.kept}: example {kept.example_id!r} is not in {config.examples} (or its line is "
                             "broken); give the file that `libra reject` judged")
        example = examples[kept.example_id]
        label = None if example.correct is None else "correct" if example.correct else "incorrect"
        if kept.verdict == "unparsed" or label not in (None, kept.verdict):
            raise ValueError(f"{config.kept}: a judgement of {kept.example_id!r} says {kept.verdict!r}, the label is "
                             f"{label!r}; give the kept.jsonl of `libra reject`, not its judgements.jsonl")
        talk = chat.render(words, template.judging_target(example.question, example.response, kept.thought,
                                                          kept.verdict))
        if len(talk.tokens) > config.sequence_length:
            too_long += 1
            continue
        rendered.append({"tokens": np.array(talk.tokens, np.int32), "loss_mask": np.array(talk.loss_mask, np.int32)})
    if too_long and not rendered:
        raise ValueError(f"{config.kept}: each of the {too_long} conversations is longer than sequence_length="
                         f"{config.sequence_length} tokens; raise it")
    hosts = jax.process_count()
    mine = tasks.read("judging_sft", rendered, words.vocab_size, shard=jax.process_index(), num_shards=hosts)
    rows = packing.pack([(item["tokens"], item["loss_mask"].astype(bool)) for item in mine], config.sequence_length)
    num_rows = len(rows["tokens"])

    def batch_at(number: int, params: Any) -> dict:
        del params
        chosen = tasks.batch_indices(config.train.seed, number, config.batch_size // hosts, num_rows)
        batch = {name: value[chosen] for name, value in rows.items()}
        return batch | {"denominator": training.over_hosts(batch["loss_mask"].sum())}

    def loss_fn(model):
        def loss(params, batch):
            logprobs = transformer.token_logprobs(model, params, batch["tokens"], positions=batch["positions"],
                                                  segment_ids=batch["segment_ids"], chunk=config.train.logit_chunk)
            return sft.loss(logprobs, batch["loss_mask"], batch["denominator"])
        return loss

    last = training.fit(config, loss_fn, batch_at, "sft", workdir, inputs=("checkpoint", "examples", "kept"))
    summary = {"judgements": len(rendered), "too_long": too_long, "broken_lines": broken + also_broken,
               "rows": num_rows, **last, "path": str(workdir / "export")}
    runs.report(summary)
    return summary


def main(argv=None) -> int:
    """`libra sft`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
