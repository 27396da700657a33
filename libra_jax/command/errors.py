"""Errors in words for the user: what is wrong, what was expected, what to do; and which errors are not the user's."""

from __future__ import annotations

import difflib
import errno
import os
import pathlib
import sysconfig
import traceback
from typing import Any

from libra_jax import config as configs

_PACKAGE = str(pathlib.Path(__file__).parents[1])
_LIBRARIES = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_REMEDIES = {
    errno.ENOSPC: "make room on that disk, or give a --workdir on another; the same command goes on from what is there",
    errno.EDQUOT: "make room there, or give a --workdir elsewhere; the same command goes on from what is there",
    errno.EACCES: "expected a place that you may use; look at its owner and mode (ls -ld)",
    errno.EPERM: "expected a place that you may use; look at its owner and mode (ls -ld)",
    errno.EROFS: "give a --workdir on a disk that can be written",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EADDRINUSE: "give another --config.port, or 0 for one that is free",
}


def is_mistake(error: BaseException) -> bool:
    """Whether the user can mend it: what this package raises as ValueError, the system's errors, and want of devices.

    A ValueError that comes out of a library was foreseen by nobody, so it is a bug; out of a user's own code it is not.
    """
    if isinstance(error, configs.ConfigError | OSError | MemoryError):
        return True
    if isinstance(error, ValueError):
        frames = traceback.extract_tb(error.__traceback__)
        return not frames or _is_ours(frames[-1].filename)
    return bool(_of_devices(error))


def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGE) or not file.startswith(tuple(_LIBRARIES))


def told(error: BaseException, config: Any, workdir: pathlib.Path | None = None) -> str:
    """A mistake in words; of the system's about a file, with the field that names it and where it is looked for.

    `workdir` is given where the folder of the run itself is what may be wrong.
    """
    if words := _of_devices(error):
        return words
    if isinstance(error, MemoryError):
        return (f"out of the host's memory ({error}); expected it to hold the inputs: give fewer records, "
                "or take a larger host")
    if not isinstance(error, OSError) or not error.strerror:
        return _with_field(str(error), config)
    said = error.strerror[0].lower() + error.strerror[1:]
    remedy = f"; {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else ""
    if not isinstance(error.filename, str | os.PathLike):
        return f"{said}{remedy}"
    name = os.fspath(error.filename)
    where = "" if os.path.isabs(name) else f" (looked for in {os.getcwd()})"
    if workdir and pathlib.Path(name) == workdir:
        wanted = "; expected a folder, or a name that is free" if error.errno in (errno.EEXIST, errno.ENOTDIR) else ""
        return f"--workdir={name}: {said}{wanted}{remedy}"
    fields = [path for path in configs.field_paths(config) if name in texts(config, path)]
    wanted = _wanted(configs.mark(config, fields[0]), name) if fields else ""
    return f"{f'--config.{fields[0]}=' if fields else ''}{name}: {said}{where}{wanted}{remedy}"


def _wanted(mark: configs.File | configs.Checkpoint | None, name: str) -> str:
    """What a field that names a file expects, and what its folder has that is called nearly so."""
    place = pathlib.Path(name)
    near = difflib.get_close_matches(place.name, os.listdir(place.parent), 1) if place.parent.is_dir() else []
    meant = f"; there is {place.with_name(near[0])}" if near and near[0] != place.name else ""
    if isinstance(mark, configs.Checkpoint):
        return (f"; expected a folder in Hugging Face format{meant}; what lies on the Hub is not fetched: hf download "
                f"{name} --local-dir FOLDER" if name.count("/") == 1 and not meant else
                f"; expected a folder in Hugging Face format{meant}")
    if isinstance(mark, configs.File):
        kind = f"a file of {mark.record.__name__}" if mark.record else "a file"
        return f"; expected {kind}{' or a folder' if mark.folder else ''}{meant}"
    return ""


def _with_field(said: str, config: Any) -> str:
    """Of an error that begins with the path that a field gives, with the field's name before it."""
    path = said.partition(":")[0]
    fields = [name for name in configs.field_paths(config) if configs.mark(config, name)]
    found = next((name for name in fields if path in texts(config, name)), "")
    return f"--config.{found}={said}" if found and path else said


def texts(config: Any, path: str) -> tuple:
    """The values of a field, of which a plain one has one."""
    value = configs.value(config, path)
    return value if isinstance(value, tuple) else (value,)


def _of_devices(error: BaseException) -> str:
    """JAX's errors of devices that are not there, or too small, in words; "" for others."""
    said = " ".join(str(error).split())
    if not isinstance(error, RuntimeError):
        return ""
    if "Unable to initialize backend" in said or ("No visible" in said and "devices" in said):
        asked = os.environ.get("JAX_PLATFORMS", "")
        return (f"JAX_PLATFORMS={asked}: {said[:300]}; expected devices of that kind here, not used by another "
                "process; unset JAX_PLATFORMS to take what there is, or install what JAX needs for them (docs/tpu.md)")
    if "RESOURCE_EXHAUSTED" in said:
        return (f"out of the devices' memory: {said[:300]}; expected the run to fit: `libra plan` says what would, and "
                "which field to change")
    return ""


__all__ = ["is_mistake", "texts", "told"]
