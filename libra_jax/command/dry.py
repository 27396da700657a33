"""--dry_run: looks at a stage's settings, inputs and folder as far as that costs seconds, and writes nothing.

A stage says what it knows (Stage); which fields name files of which record, and which a checkpoint, stands in the types
of its config (config.File, config.Checkpoint).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from libra_jax import config as configs
from libra_jax import records
from libra_jax.command import errors, log

LOOKED = 100  # records of a file
Writes = Sequence[str] | Callable[[Any], Sequence[str]]
Look = Callable[[Any], Sequence[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage says of itself.

    Attributes:
      name: of the stage.
      check: raises ValueError for settings that the stage refuses; looks at nothing but the config and the devices.
      writes: the names of what it makes in its workdir, or a function of the config to them.
      look: lines about the inputs, such as the lengths of prompts; ValueError for what does not go together.
    """

    name: str
    check: Callable[[Any], None] | None
    writes: Writes
    look: Look | None


def lines(config: Any, workdir: pathlib.Path, command: str, stage: Stage) -> Iterator[str]:
    """What is told, line by line. ValueError or OSError for what would stop the run, as far as can be seen now."""
    if stage.check:
        stage.check(config)
    found = [(path, each, mark) for path in configs.field_paths(config) if (mark := configs.mark(config, path))
             for each in errors.texts(config, path) if each]
    yield f"dry run: libra {stage.name} would read" + (" nothing" if not found else "")
    width = max((len(path) for path, _, _ in found), default=0)
    for path, each, mark in found:
        told = checkpoint(each, mark) if isinstance(mark, configs.Checkpoint) else file(path, each, mark)
        yield f"  --config.{path:<{width}}  {each}: {told}"
    for said in stage.look(config) if stage.look else ():
        yield f"  {said}"
    names = stage.writes(config) if callable(stage.writes) else stage.writes
    yield f"and write to {workdir} ({folder(workdir)})"
    yield f"  {', '.join([*names, 'run_config.json', log.NAME])}"
    yield "nothing was written; it starts by the same command without --dry_run:"
    yield f"  {command.replace(' --dry_run=true', '').replace(' --dry_run', '')}"


def file(field: str, path: str, mark: configs.File) -> str:
    """What lies at the path of a field, in words. OSError or ValueError for what cannot be read as what is wanted."""
    if path.startswith("hf://"):
        return "on the Hugging Face Hub, not looked at"
    place = pathlib.Path(path)
    if place.is_dir():
        if not mark.folder:
            raise ValueError(f"--config.{field}={path} is a folder; expected a file"
                             + (f" of {mark.record.__name__}, JSON lines" if mark.record else ""))
        return "a folder"
    with place.open("rb") as opened:
        start = opened.read(1)
    size = place.stat().st_size
    if not start:
        raise ValueError(f"--config.{field}={path} is empty; expected "
                         + (f"JSON lines of {mark.record.__name__}" if mark.record else "a file with something in it"))
    if not mark.record:
        return f"{size:,} bytes"
    broken: list[str] = []
    found = records.read(place, mark.record, rejected=broken, aside=os.devnull)
    if not list(itertools.islice(found, LOOKED)):
        raise ValueError(f"--config.{field}: {broken[0] if broken else f'{path} has blank lines alone'}; expected JSON "
                         f"lines of {mark.record.__name__}, and found none")
    return f"{mark.record.__name__}, {size:,} bytes" + f", {len(broken)} broken lines at its head" * bool(broken)


def checkpoint(path: str, mark: configs.Checkpoint) -> str:
    """What checkpoint lies at a path, in words. OSError or ValueError, as the loading itself would raise."""
    from libra_jax.model import hf, transformer
    from libra_jax.text import tokenizer

    model = hf.check(pathlib.Path(path))
    told = f"{model.family}, {transformer.num_parameters(model):,} parameters"
    if mark.tokenizer:
        words = tokenizer.load(path)
        told += f", tokenizer of {words.vocab_size:,} tokens"
    return told


def folder(workdir: pathlib.Path) -> str:
    """The state of a workdir in words. ValueError where it cannot be used."""
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir={workdir} is a file; expected a folder, or a name that is free")
    if who := log.holder(workdir):
        raise ValueError(log.refusal(workdir, who))
    there = next(each for each in itertools.chain([workdir], workdir.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--workdir={workdir}: {there} may not be written by you; give another --workdir")
    if there != workdir:
        return "a new folder"
    count = sum(1 for _ in workdir.iterdir())
    return f"a folder of {count} files; what a run of the same config left there is gone on from" if count else "empty"
