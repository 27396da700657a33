"""Rejection sampling: a checkpoint judges labelled examples; what is worth training on is kept for SFT.

    libra reject --workdir=DIR --config.examples=train.jsonl --config.checkpoint=FOLDER

Writes judgements.jsonl (all), kept.jsonl (those to train on) and rejection.json (counts, and the examples that were
never right, for RL). A killed run goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.command import entry
from libra_jax.parallel import mesh as meshes
from libra_jax.records import JudgingExample
from libra_jax.sampling import engine, rejection
from libra_jax.stages import judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is drawn, and what is kept.

    Attributes:
      examples: JSON lines of JudgingExample, with labels.
      checkpoint: the judge; folder in Hugging Face format, with its tokenizer.
      template: a name in judging/prompt.py, or a .py file with TEMPLATE (your own trusted code).
      name: the name that judgements carry; default: the checkpoint's folder name.
      mesh: over all devices of all hosts; by default each device holds a copy of the model. `tensor`, `fsdp`: parts.
      compute_dtype: of the model's parameters and computation.
      sampling: how to draw; `num_samples` judgements an example.
      enough: 0 draws them all; else an example's judgements after its `enough`-th right one are not drawn, as if they
        were drawn one after another. It saves most of the work where judgements are long and mostly right; what counts
        as always right, and what is diverse, is then seen in fewer of them.
      rejection: what is kept.
    """

    examples: Annotated[str, configs.File(JudgingExample)] = ""
    checkpoint: Annotated[str, configs.Checkpoint()] = ""
    template: str = "libra"
    name: str = ""
    mesh: meshes.MeshConfig = meshes.MeshConfig(data=-1, fsdp=1)
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    sampling: engine.SamplingConfig = engine.SamplingConfig(max_new_tokens=4096, num_samples=8)
    enough: int = 0
    rejection: rejection.RejectionConfig = rejection.RejectionConfig()


def judging(config: Config) -> judge.Config:
    """The same as the judge stage has it."""
    return judge.Config(examples=config.examples, checkpoint=config.checkpoint, template=config.template,
                        name=config.name, mesh=config.mesh, compute_dtype=config.compute_dtype,
                        sampling=config.sampling, enough=config.enough)


def check(config: Config) -> None:
    """ValueError for a path that is missing, or settings that cannot be."""
    judge.check(judging(config))
    rejection.check(config.rejection)


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes judgements.jsonl, rejection.json and, last, kept.jsonl to `workdir`; returns the counts.

    Another `rejection` over the same judgements needs no new ones: only the fields that they depend on must stay.
    Errors as in the judge stage.
    """
    check(config)
    given = records.read(config.examples, JudgingExample, rejected=[], aside=os.devnull)
    if all(example.correct is None for example in given):  # before hours of judging for nothing
        raise ValueError(f"{config.examples}: no example has a label; rejection sampling keeps the judgements that "
                         "equal it: give examples as `libra curate` makes them")
    examples, judgements, summary = judge.judge_file(judging(config), workdir)
    kept, stats = rejection.select(examples, judgements, config.rejection)
    counts = dataclasses.asdict(stats) | {"never_right": list(stats.never_right)}
    if runs.is_first():
        records.write_json(workdir / "rejection.json", counts)
    runs.write(workdir / "kept.jsonl", kept)
    summary = counts | {"never_right": len(stats.never_right), "broken_lines": summary["broken_lines"],
                        "path": str(workdir / "kept.jsonl")}
    runs.report(summary)
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """`libra reject`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=("judgements.jsonl", "kept.jsonl", "rejection.json"),
                      look=lambda config: judge.look(judging(config)))


if __name__ == "__main__":
    raise SystemExit(main())
