"""Asynchronous Orbax checkpoints of a train state, sealed with checksums; the newest whole one is where a run goes on.

A save is written under a temporary name, sealed (checksums.json: size and CRC-32 of every file) and then renamed, so
what was killed half way never counts. Orbax alone restores a flipped byte of an array without a word; the seal tells.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import logging
import pathlib
import shutil
import sys
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from libra_jax import records
from libra_jax.train.state import TrainState

_SEAL = "checksums.json"
# Orbax writes these after the seal, and restores without them.
_UNSEALED = {_SEAL, "_CHECKPOINT_METADATA", "commit_success.txt"}
_UNFINISHED = "*.orbax-checkpoint-tmp*"


def _is_news(record: logging.LogRecord) -> bool:
    """Not the tracebacks that a failed save leaves in logs; Checkpointer raises the error in its own words."""
    mine = "orbax" in pathlib.Path(record.pathname).parts or ".orbax-checkpoint-tmp" in record.getMessage()
    return not (mine and record.exc_info)


def _report(unraisable, *, otherwise=sys.unraisablehook) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":  # TensorStore's threads, once one write of a save failed
        otherwise(unraisable)


sys.unraisablehook = _report
for _logger in ("absl", "asyncio"):
    logging.getLogger(_logger).addFilter(_is_news)


class _Handler(ocp.StandardCheckpointHandler):
    """Seals a checkpoint as the last thing before Orbax renames it; Orbax calls this on one process."""

    def finalize(self, directory) -> None:
        super().finalize(directory)
        seal(pathlib.Path(directory))


@ocp.args.register_with_handler(_Handler, for_save=True)
@dataclasses.dataclass
class _Save(ocp.args.StandardSave):
    pass


@ocp.args.register_with_handler(_Handler, for_restore=True)
@dataclasses.dataclass
class _Restore(ocp.args.StandardRestore):
    pass


class Checkpointer:
    """Saves under `folder`/<step>, keeps the newest `keep` whole ones.

    On opening, chooses the newest whole checkpoint and says so on stderr, by name: unfinished saves are removed, broken
    checkpoints set aside as <step>.refused. ValueError where there are checkpoints and none is whole.
    """

    def __init__(self, folder: pathlib.Path, *, every: int, keep: int = 2):
        if keep < 2:
            raise ValueError(f"keep={keep}: expected at least 2, or a broken checkpoint would leave none")
        self._folder, self._every, self._keep = pathlib.Path(folder).absolute(), every, keep
        self._last = _agree(self._folder)  # step of the newest whole checkpoint, -1 for none
        self._saving = -1  # step of the save that is under way, -1 for none
        self._orbax = ocp.AsyncCheckpointer(_Handler())

    def restore(self, state: TrainState) -> TrainState:
        """The newest whole state, laid out as `state` is, which is freed; `state` itself where nothing was saved.

        ValueError for a whole checkpoint of something else than `state`.
        """
        if self._last < 0:
            return state
        shape = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        jax.tree.map(lambda leaf: leaf.delete(), state)  # two states may not fit; the checkpoint is known to be whole
        path = self._folder / str(self._last)
        try:
            return self._orbax.restore(path, args=_Restore(shape))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is whole, but not of this run: {error}; use the code and config that saved it, "
                             f"or remove {self._folder} to start over") from error

    def save(self, step: int, state: TrainState, *, now: bool = False) -> None:
        """Starts to save the state after `step` steps, when it is due or `now`; returns before it is written.

        OSError when this or the save before it failed.
        """
        if not (now or self.due(step)):
            return
        self.wait()
        if step == self._last:
            return
        try:
            self._orbax.save(self._folder / str(step), args=_Save(state))
        except (OSError, ValueError) as error:
            raise self._failure(step, error) from error
        self._saving = step

    def due(self, step: int) -> bool:
        """Whether the state after `step` steps is one to be saved."""
        return bool(self._every) and step % self._every == 0

    def wait(self) -> None:
        """Waits until what was started is on disk, and removes the oldest checkpoints. OSError when it failed."""
        step, self._saving = self._saving, -1
        try:
            self._orbax.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._failure(step, error) from error
        if step >= 0:
            self._last = step
            if jax.process_index() == 0:
                for old in _steps(self._folder)[:-self._keep]:
                    shutil.rmtree(self._folder / str(old))

    def close(self) -> None:
        """As `wait`; nothing can be saved afterwards."""
        try:
            self.wait()
        finally:
            self._orbax.close()

    def _failure(self, step: int, error: Exception) -> OSError:
        if jax.process_index() == 0:
            for path in self._folder.glob(_UNFINISHED):  # the room it takes is what is missing
                shutil.rmtree(path, ignore_errors=True)
        free = shutil.disk_usage(self._folder).free / 2**30
        kept = f"{self._folder / str(self._last)} is whole" if self._last >= 0 else "no checkpoint was saved before"
        reason = getattr(error, "strerror", "") or ": ".join(str(error).partition("\n")[0].split(": ")[-2:])
        return OSError(f"cannot save {self._folder / str(step)}: {reason}; {free:.1f} GiB are free there, {kept}; make "
                       "room (or allow larger files) and run the same command to go on")


def seal(folder: pathlib.Path) -> None:
    """Writes `folder`/checksums.json: of each file its path, size in bytes and CRC-32."""
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    records.write_json(folder / _SEAL, dict(zip(paths, _checksums(folder, paths), strict=True)))


def fault(folder: pathlib.Path) -> str:
    """Why a checkpoint must not be used, in a few words; "" for a whole one. Reads every byte of it."""
    try:
        sealed = json.loads((folder / _SEAL).read_text(encoding="utf-8"))
        wanted = {str(name): [int(size), int(crc)] for name, (size, crc) in sealed.items() if name not in _UNSEALED}
    except FileNotFoundError:
        return f"{_SEAL} is missing"
    except (ValueError, TypeError, AttributeError):
        return f"{_SEAL} is broken"
    if not wanted:
        return f"{_SEAL} is broken"
    for name, (size, _) in wanted.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if (there := (folder / name).stat().st_size) != size:
            return f"{name} has {there} bytes, {size} were written"
    for name, (_, crc) in zip(wanted, _checksums(folder, list(wanted)), strict=True):
        if crc != wanted[name][1]:
            return f"{name} has changed since it was written (its checksum differs)"
    return ""


def _checksums(folder: pathlib.Path, paths: list[str]) -> list[list[int]]:
    def one(name: str) -> list[int]:
        size = crc = 0
        with (folder / name).open("rb") as file:
            while piece := file.read(2**24):
                size, crc = size + len(piece), zlib.crc32(piece, crc)
        return [size, crc]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # zlib works without the lock of the interpreter
        return list(pool.map(one, paths))


def _steps(folder: pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal() and path.is_dir())


def _choose(folder: pathlib.Path) -> int:
    """The step of the newest whole checkpoint in `folder`, -1 where nothing was saved; says on stderr what it did."""
    def say(line: str) -> None:
        print(f"checkpoints: {line}", file=sys.stderr, flush=True)

    for path in sorted(folder.glob(_UNFINISHED)):
        say(f"{path} is unfinished, the run was stopped while it saved; ignored and removed")
        shutil.rmtree(path)
    steps, faults = _steps(folder), {}
    for step in reversed(steps):
        path = folder / str(step)
        if why := fault(path):
            say(f"{path} is refused: {why}")
            faults[step] = why
            continue
        for broken in faults:
            aside = folder / f"{broken}.refused"
            shutil.rmtree(aside, ignore_errors=True)
            (folder / str(broken)).rename(aside)
            say(f"{folder / str(broken)} is set aside as {aside.name}; remove it when you have looked at it")
        say(f"going on from step {step}, {path}")
        return step
    if faults:
        raise ValueError(f"{folder}: none of the checkpoints {', '.join(map(str, steps))} is whole "
                         f"(the newest: {faults[steps[-1]]}); remove {folder} to start over, or put a copy back")
    return -1


def _agree(folder: pathlib.Path) -> int:
    """`_choose` by the first process for all of them. ValueError on all where it fails."""
    if jax.process_count() == 1:
        return _choose(folder)
    chosen, failure = -2, None
    if jax.process_index() == 0:
        try:
            chosen = _choose(folder)
        except (ValueError, OSError) as error:
            failure = error
    chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
    if chosen == -2:
        raise failure or ValueError(f"{folder}: no checkpoint can be used; process 0 says why")
    return chosen
