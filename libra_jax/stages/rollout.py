"""A policy's responses to problems: Problem -> Rollout, several samples each.

    libra rollout --workdir=DIR --config.problems=problems.jsonl --config.checkpoint=FOLDER --config.policy=NAME

Writes rollouts.jsonl. A killed run goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.command import entry, lengths
from libra_jax.judges.model import stable_id
from libra_jax.judging.prompt import load_template
from libra_jax.model import hf
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Problem, Rollout
from libra_jax.sampling import engine
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Who answers what, and how.

    Attributes:
      problems: JSON lines of Problem; answers are not looked at.
      checkpoint: folder in Hugging Face format, with its tokenizer.
      policy: the name that rollouts carry; default: the checkpoint's folder name.
      template: a name in judging/prompt.py.
      mesh: over all devices of all hosts; by default each device holds a copy of the model. `tensor`, `fsdp`: parts.
      compute_dtype: of the model's parameters and computation.
      sampling: how to draw.
    """

    problems: Annotated[str, configs.File(Problem)] = ""
    checkpoint: Annotated[str, configs.Checkpoint()] = ""
    policy: str = ""
    template: str = "libra"
    mesh: meshes.MeshConfig = meshes.MeshConfig(data=-1, fsdp=1)
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    sampling: engine.SamplingConfig = engine.SamplingConfig(max_new_tokens=1024, num_samples=4)


def check(config: Config) -> None:
    """ValueError for a path that is missing, or a template that is none."""
    runs.need(config, "problems", "checkpoint")
    load_template(config.template)


def look(config: Config) -> list[str]:
    """For --dry_run: the devices, and the lengths of the first prompts. ValueError for what does not fit."""
    return [lengths.devices(config.mesh),
            lengths.prompts(config, Problem, config.problems, new_tokens=config.sampling.max_new_tokens,
                            ask=lambda template, each: template.solving(each.question))]


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes rollouts.jsonl to `workdir`; returns counts and where it lies.

    Broken input lines are set aside in problems.rejected.jsonl and counted. Raises ValueError when what an earlier,
    killed run left is of another config, for a missing path in the config, or for a file without a whole line. Several
    processes make the same rollouts together, and the first one writes.
    """
    check(config)
    problems, broken = runs.read(config.problems, Problem, workdir)
    policy = config.policy or pathlib.Path(config.checkpoint).name
    out = runs.resume(workdir / "rollouts.jsonl", Rollout, config, inputs=("problems", "checkpoint"),
                      together=True)
    if not out.finished:
        tokenizer, template = tokenizers.load(config.checkpoint), load_template(config.template)
        mesh = meshes.for_sampling(config.mesh)
        model_config, params = hf.load(config.checkpoint, mesh=mesh, dtype=np.dtype(config.compute_dtype),
                                       compute_dtype=config.compute_dtype)
        prompts = [chat.render(tokenizer, template.solving(problem.question), open_last=True).tokens
                   for problem in problems]
        samples = engine.generate(model_config, params, prompts, config.sampling, stop_ids=tokenizer.stop_ids,
                                  ids=[stable_id(problem.id) for problem in problems], skip=len(out.done),
                                  progress=engine.to_stderr(f"rollout {policy}"), mesh=mesh)
        for sample in samples:
            text = sample.tokens[:-1] if sample.finish == "stop" else sample.tokens
            out.append(Rollout(problem_id=problems[sample.prompt].id, policy=policy, sample=sample.sample,
                               text=tokenizer.decode(text.tolist()), num_tokens=len(sample.tokens),
                               finish=sample.finish))
        out.finish()
    summary = {"problems": len(problems), "broken_lines": broken,
               "rollouts": len(problems) * config.sampling.num_samples, "path": str(out.path)}
    runs.report(summary)
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """`libra rollout`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=("rollouts.jsonl",), look=look)


if __name__ == "__main__":
    raise SystemExit(main())
