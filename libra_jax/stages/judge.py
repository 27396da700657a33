r"""Judges responses by a checkpoint, endpoint, file of scores or baseline: JudgingExample -> Judgement.

    libra judge --workdir=DIR --config.examples=bench.jsonl --config.checkpoint=FOLDER
    libra judge --workdir=DIR --config.examples=bench.jsonl --config.judge=majority_answer
    libra judge --workdir=DIR --config.examples=bench.jsonl --config.judge=scores --config.scores=scores.jsonl
    libra judge --workdir=DIR --config.examples=bench.jsonl --config.judge=endpoint \
        --config.endpoint.url=http://127.0.0.1:8000/v1 --config.endpoint.model=NAME
    libra judge --workdir=DIR --config.examples=bench.jsonl --config.judge=mine.py

Writes judgements.jsonl and summary.json; of an endpoint also requests.jsonl, every request with its tokens. A killed
run goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.command import entry, lengths
from libra_jax.judges import baselines, brought, model, scores, tally
from libra_jax.judges import endpoint as endpoints
from libra_jax.judges.protocol import Judge
from libra_jax.judging.prompt import load_template
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample, Score
from libra_jax.sampling import engine

JUDGES = ("model", "endpoint", "scores", *baselines.BASELINES)  # those that ship


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Who judges what, and how.

    Attributes:
      examples: JSON lines of JudgingExample; labels are not looked at (except by `enough`, and where they calibrate).
      judge: "model" is `checkpoint`, "endpoint" is `endpoint`, "scores" is `scores`; "majority_answer",
        "response_length" and "always_correct" are in judges/baselines.py; FILE.py with JUDGE, or an entry point, is
        your own trusted code (judges/brought.py).
      name: the name that judgements carry; default: the checkpoint's folder name, the endpoint's model, or `judge`; not
        for a judge of your own, which names itself.
      endpoint: which server and model, and how to ask it (judges/endpoint.py).
      scores: JSON lines of Score, for "scores": rewards by example id (judges/scores.py).
      calibration: JSON lines of labelled JudgingExample that choose the threshold of `scores`; default: `examples`. A
        problem's own examples never choose its threshold.
      template: a name in judging/prompt.py, or a .py file with TEMPLATE (your own trusted code); for "model" and
        "endpoint".
      checkpoint: folder in Hugging Face format, with its tokenizer; this and what follows is for "model" alone.
      thinking: without, the judge gets an empty thought and gives its verdict at once.
      mesh: over all devices of all hosts; by default each device holds a copy of the model. `tensor`, `fsdp`: parts.
      compute_dtype: of the model's parameters and computation.
      sampling: how to draw; `num_samples` votes an example.
      probability: whether a judgement's score is P(correct) at its verdict (judges/verdict_probability.py); for "model"
        (an endpoint's is --config.endpoint.logprobs).
      enough: 0, or stop an example's votes at so many right ones, as rejection sampling does; needs labels.
    """

    examples: Annotated[str, configs.File(JudgingExample)] = ""
    judge: str = "model"
    name: str = ""
    endpoint: endpoints.EndpointConfig = endpoints.EndpointConfig()
    scores: Annotated[str, configs.File(Score)] = ""
    calibration: Annotated[str, configs.File(JudgingExample)] = ""
    template: str = "libra"
    checkpoint: Annotated[str, configs.Checkpoint()] = ""
    thinking: bool = True
    mesh: meshes.MeshConfig = meshes.MeshConfig(data=-1, fsdp=1)
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    sampling: engine.SamplingConfig = model.ModelJudgeConfig().sampling
    probability: bool = False
    enough: int = 0

    def __post_init__(self):
        brought.check(self.judge, JUDGES)


def check(config: Config, *, group: str = "") -> None:
    """ValueError for a path that is missing, or settings that do not go together; `group` as in runs.need."""
    runs.need(config, "examples", *{"model": ["checkpoint"], "scores": ["scores"]}.get(config.judge, []), group=group)
    check_settings(config)


def check_settings(config: Config) -> None:
    """ValueError for settings of a judge that do not go together, or a template or an endpoint that is none."""
    if config.enough < 0 or (config.enough and config.judge != "model"):
        raise ValueError(f"enough={config.enough} with judge={config.judge!r}: expected 0, or a count for judge=model")
    if config.probability and config.judge != "model":
        raise ValueError(f"probability=True with judge={config.judge!r}: it is for judge=model; an endpoint's is "
                         "--config.endpoint.logprobs=true")
    if config.judge == "endpoint":
        if (config.thinking, config.sampling) != (Config().thinking, Config().sampling):
            raise ValueError("--config.thinking and .sampling are for judge=model; how an endpoint draws is set by "
                             "--config.endpoint.num_samples, .max_tokens and their neighbours, its thinking by .extra")
        endpoints.load(config.endpoint, config.name, load_template(config.template))
    if config.judge == "model":
        load_template(config.template)


def writes(config: Config) -> tuple[str, ...]:
    """The files that `run` makes."""
    return ("judgements.jsonl", "summary.json", *(["requests.jsonl"] if config.judge == "endpoint" else []))


def look(config: Config) -> list[str]:
    """For --dry_run: the devices, and the lengths of the first prompts. ValueError for what does not fit."""
    if config.judge != "model":
        return []
    return [lengths.devices(config.mesh), lengths.prompts(
        config, JudgingExample, config.examples, new_tokens=config.sampling.max_new_tokens,
        ask=lambda template, each: template.judging(each.question, each.response, thinking=config.thinking))]


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes judgements.jsonl to `workdir`, and summary.json: counts by verdict, for an endpoint also tokens and cost.

    Broken input lines are set aside in examples.rejected.jsonl and counted. Raises ValueError when what an earlier,
    killed run left is of another config, or for a missing path in the config.
    """
    summary = judge_file(config, workdir)[-1]
    if runs.is_first():
        records.write_json(workdir / "summary.json", summary)
    runs.report(summary)
    return summary


def judge_file(config: Config, workdir: pathlib.Path) -> tuple[list[JudgingExample], list[Judgement], dict]:
    """Judges the examples of `config` into judgements.jsonl of `workdir`, going on where a killed run stopped.

    Returns the examples, all their judgements, and counts. Several processes judge together: each has all judgements,
    and the first one writes.
    """
    check(config)
    examples, broken = runs.read(config.examples, JudgingExample, workdir)
    given, calibration = [], examples
    if config.judge == "scores":
        given, more = runs.read(config.scores, Score, workdir)
        broken += more
        if config.calibration:
            calibration, more = runs.read(config.calibration, JudgingExample, workdir)
            broken += more
    same = dataclasses.replace(config, endpoint=config.endpoint.same_answers())
    out = runs.resume(workdir / "judgements.jsonl", Judgement, same,
                      inputs=("examples", "checkpoint", "scores", "calibration"),
                      together=config.judge != "endpoint")  # of which each process would get other answers
    judgements, log = list(out.done), workdir / "requests.jsonl"
    if not out.finished:
        left, skip = _left(examples, out.done) if config.enough else (examples, len(out.done))
        for judgement in make(config, given=given, calibration=calibration, log=log).judge(left, skip=skip):
            out.append(judgement)
            judgements.append(judgement)
        out.finish()
    verdicts = collections.Counter(judgement.verdict for judgement in judgements)
    summary = {"examples": len(examples), "broken_lines": broken, "judgements": len(judgements)}
    summary |= {verdict: verdicts[verdict] for verdict in ("correct", "incorrect", "unparsed")}
    if config.judge == "endpoint":
        summary |= tally.summary(log, config.endpoint.prices)
    return examples, judgements, summary | {"path": str(out.path)}


def _left(examples: list[JudgingExample], done: list[Judgement]) -> tuple[list[JudgingExample], int]:
    """The examples from the last one of `done` on, of which no one knows the number of judgements yet, and how many of
    its own are done."""
    if not done:
        return examples, 0
    last = done[-1].example_id
    place = next(place for place, example in enumerate(examples) if example.id == last)
    return examples[place:], sum(judgement.example_id == last for judgement in done)


def make(config: Config, *, given: Sequence[Score] = (), calibration: Sequence[JudgingExample] = (),
         log: pathlib.Path | None = None) -> Judge:
    """The judge that `config` names; of "scores" with what its files hold, of "endpoint" with the file `log` where its
    requests are written down, so that none is sent twice. ValueError or FileNotFoundError when it cannot be loaded."""
    check_settings(config)
    if config.judge == "scores":
        return scores.load(given, calibration, name=config.name or "scores")
    if config.judge == "endpoint":
        return endpoints.load(config.endpoint, config.name or config.endpoint.model, load_template(config.template),
                              log=log).watched(True)
    if config.judge in baselines.BASELINES:
        judge = baselines.BASELINES[config.judge]()
        return dataclasses.replace(judge, name=config.name or judge.name)
    if config.judge == "model":
        return of_checkpoint(config)
    if config.name:
        raise ValueError(f"name={config.name!r} with judge={config.judge!r}: a judge of your own names itself; leave "
                         "--config.name out")
    return brought.load(config.judge)


def of_checkpoint(config: Config) -> model.ModelJudge:
    """The judge that `config.checkpoint` holds. ValueError or FileNotFoundError when it cannot be loaded."""
    name = config.name or pathlib.Path(config.checkpoint).name
    how = model.ModelJudgeConfig(name=name, thinking=config.thinking, sampling=config.sampling,
                                 enough=config.enough, probability=config.probability)
    template, mesh = load_template(config.template), meshes.for_sampling(config.mesh)
    return model.load(config.checkpoint, how, template, mesh=mesh, compute_dtype=config.compute_dtype).watched(True)


def main(argv: Sequence[str] | None = None) -> int:
    """`libra judge`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=writes, look=look)


if __name__ == "__main__":
    raise SystemExit(main())
