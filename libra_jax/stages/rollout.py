"""A policy's responses to problems: Problem -> Rollout, several samples each.

    libra rollout --workdir=DIR --config.problems=problems.jsonl --config.checkpoint=FOLDER --config.policy=NAME

Writes rollouts.jsonl. A killed run goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from libra_jax import config as configs
from libra_jax import records
from libra_jax.judges.model import stable_id
from libra_jax.judging.prompt import load_template
from libra_jax.model import hf
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Problem, Rollout
from libra_jax.sampling import engine
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers

_END = 2**20  # bytes of each end of a file of weights that its fingerprint covers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Who answers what, and how.

    Attributes:
      problems: JSON lines of Problem; answers are not looked at.
      checkpoint: folder in Hugging Face format, with its tokenizer.
      policy: the name that rollouts carry; default: the checkpoint's folder name.
      template: a name in judging/prompt.py.
      num_devices: rows are spread over so many devices.
      sampling: how to draw.
    """

    problems: str = ""
    checkpoint: str = ""
    policy: str = ""
    template: str = "libra"
    num_devices: int = 1
    sampling: engine.SamplingConfig = engine.SamplingConfig(max_new_tokens=1024, num_samples=4)


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes rollouts.jsonl to `workdir`; returns counts and where it lies.

    Broken input lines are set aside in problems.rejected.jsonl and counted. Raises ValueError when what an earlier,
    killed run left is of another config, for a missing path in the config, or for a file without a whole line.
    """
    need(config, "problems", "checkpoint")
    workdir.mkdir(parents=True, exist_ok=True)
    rejected: list[str] = []
    aside = workdir / "problems.rejected.jsonl"
    problems = some(list(records.read(config.problems, Problem, rejected=rejected, aside=aside)), config.problems,
                    rejected)
    policy = config.policy or pathlib.Path(config.checkpoint).name
    out = resume(workdir / "rollouts.jsonl", Rollout, config, inputs=("problems", "checkpoint"))
    if not out.finished:
        tokenizer, template = tokenizers.load(config.checkpoint), load_template(config.template)
        mesh = make_mesh(config.num_devices)
        model_config, params = hf.load(config.checkpoint, mesh=mesh)
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
    summary = {"problems": len(problems), "broken_lines": len(rejected),
               "rollouts": len(problems) * config.sampling.num_samples, "path": str(out.path)}
    print(" ".join(f"{name}={value}" for name, value in summary.items()))
    return summary


def need(config: Any, *names: str) -> None:
    """Raises ValueError for the first of these fields that is empty."""
    for name in names:
        if not getattr(config, name):
            raise ValueError(f"--config.{name} is empty; expected a path")


def resume(path: pathlib.Path, cls: type, config: Any, *, inputs: Sequence[str]) -> records.Appender:
    """Opens `path` for appending, to go on from what a killed run of the same config and inputs left there.

    `inputs` as in `claim`, whose note is `<path>.config.json`; ValueError when what lies there was made from others.
    """
    if num_processes() > 1:
        raise ValueError(f"{num_processes()} processes would write {path}; start this stage on one host")
    claim(path.with_name(path.name + ".config.json"), config, inputs=inputs)
    return records.Appender(path, cls)


def claim(note: pathlib.Path, config: Any, *, inputs: Sequence[str]) -> None:
    """Notes in `note` from what its neighbours are made: `config`, and fingerprints of the inputs.

    `inputs` names the fields of the config that are paths: what lies there counts, not the path. ValueError when the
    note of an earlier run says otherwise.
    """
    now = dataclasses.asdict(config)
    now |= {name: fingerprint(pathlib.Path(now[name])) for name in inputs if now[name]}
    if note.exists() and (before := json.loads(note.read_text(encoding="utf-8"))) != now:
        old, new = _flat(before), _flat(now)
        name = next(name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name))
        made = note.with_name(note.name.removesuffix(".config.json"))
        raise ValueError(f"{made} was made with {name}={old.get(name)!r}, now {name}={new.get(name)!r}; use another "
                         "--workdir, or empty this one")
    if num_processes() == 1 or jax.process_index() == 0:
        records.write_json(note, now)


def num_processes() -> int:
    """How many processes share this run; unlike jax.process_count(), does not take the accelerators to find out."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def some(found: list, path: str, rejected: Sequence[str]) -> list:
    """`found`, the records of the file `path`; ValueError when there are none, with the first broken line if any."""
    if not found:
        why = f"all {len(rejected)} lines are broken; the first: {rejected[0]}" if rejected else "the file is empty"
        raise ValueError(f"{path}: no records: {why}")
    return found


def fingerprint(path: pathlib.Path) -> str:
    """A hash of a file, or of a checkpoint folder: of its json and safetensors files, the sizes and both ends.

    Weights are too large to be read twice, and training changes them everywhere. FileNotFoundError for no such path.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder")
    digest = hashlib.sha256()
    for part in sorted(path.iterdir()):
        if part.suffix in (".json", ".safetensors", ".model"):
            with part.open("rb") as file:
                size = part.stat().st_size
                digest.update(f"{part.name} {size} ".encode() + file.read(_END))
                file.seek(max(0, size - _END))
                digest.update(file.read())
    return digest.hexdigest()


def make_mesh(num_devices: int) -> jax.sharding.Mesh | None:
    """A mesh that spreads rows over the first `num_devices` devices; None for one. ValueError if there are fewer."""
    if not 1 <= num_devices <= jax.device_count():
        raise ValueError(f"num_devices={num_devices}: expected 1 to {jax.device_count()}, the devices of this machine")
    if num_devices == 1:
        return None
    return meshes.make(data=num_devices, fsdp=1, devices=jax.devices()[:num_devices])


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def main(argv: Sequence[str] | None = None) -> int:
    """`libra rollout`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
