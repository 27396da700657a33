"""A run's folder: what it was made from, what a killed run left there, broken input lines, and the summary at the end.

What every stage says and checks alike, so that each holds only its own work. Where several processes share a run, the
first one alone writes to its folder.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from libra_jax import records

_TOLD = 3  # broken lines that are told one by one
_END = 2**20  # bytes of each end of a file of weights that its fingerprint covers


def need(config: Any, *names: str, group: str = "") -> None:
    """Raises ValueError for the first of these fields that is empty, or holds one path where several belong.

    `group` is where `config` stands in the config of the stage, such as "judge.".
    """
    defaults = type(config)()
    for name in names:
        value = getattr(config, name)
        if not value:
            raise ValueError(f"--config.{group}{name} is empty; expected a path")
        if isinstance(value, str) and isinstance(getattr(defaults, name), tuple):
            raise ValueError(f"{name} is the string {value!r}; expected a tuple of paths: write ({value!r},)")


def read(path: str, cls: type, workdir: pathlib.Path, *, name: str = "") -> tuple[list, int]:
    """The records of a file and its number of broken lines, which go to `workdir`/<name>.rejected.jsonl.

    `name` is the file's stem unless given, as by those who read several files that may be called alike.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    rejected: list[str] = []
    aside = workdir / f"{name or pathlib.Path(path).stem}.rejected.jsonl" if is_first() else pathlib.Path(os.devnull)
    found = list(records.read(path, cls, rejected=rejected, aside=aside))
    some(found, path, cls, rejected)
    for line in rejected[:_TOLD] if is_first() else ():
        print(f"set aside: {line}", file=sys.stderr)
    if len(rejected) > _TOLD and is_first():
        print(f"set aside: {len(rejected) - _TOLD:,} more lines; they are in {aside}", file=sys.stderr)
    return found, len(rejected)


def some(found: Sequence[Any], path: str, cls: type, rejected: Sequence[str]) -> None:
    """ValueError when `found`, the records of class `cls` in the file `path`, are none; it says what the file is."""
    if found:
        return
    wanted = f"expected JSON lines of {cls.__name__}"
    if not rejected:
        raise ValueError(f"{path}: no records: the file is empty; {wanted}")
    kinds = records.kinds(path)
    is_other = f"; these are lines of {' or '.join(kinds)}" if kinds else ""
    raise ValueError(f"{path}: no records: all lines are broken ({len(rejected)}); line "
                     f"{rejected[0].removeprefix(f'{path}:')}; {wanted}{is_other}")


def resume(path: pathlib.Path, cls: type, config: Any, *, inputs: Sequence[str], together: bool = False
           ) -> records.Appender | Reader:
    """Opens `path` for appending, to go on from what a killed run of the same config and inputs left there.

    `inputs` as in `claim`, whose note is `<path>.config.json`; ValueError when what lies there was made from others.
    Several processes may call it only if they make the same records `together`: the first one looks at the folder,
    tells the others what is done, and writes.
    """
    if num_processes() > 1 and not together:
        raise ValueError(f"{num_processes()} processes would write {path}; start this stage on one host")
    opened: list[records.Appender] = []

    def there() -> bytes:
        partial = path.with_name(path.name + ".partial")
        begun = path.exists() or (partial.exists() and partial.stat().st_size > 0)
        claim(path.with_name(path.name + ".config.json"), config, inputs=inputs, begun=begun)
        out = records.Appender(path, cls)
        opened.append(out)
        lines = "".join(records.to_json(record) + "\n" for record in out.done) if num_processes() > 1 else ""
        return (f"{out.finished:d}\n" + lines).encode("utf-8")

    finished, _, lines = from_first(there).decode("utf-8").partition("\n")
    if opened:
        return opened[0]
    done = [records.from_json(line, cls) for line in lines.split("\n") if line]
    return Reader(path=path, done=done, finished=finished == "1")


@dataclasses.dataclass(kw_only=True)
class Reader:
    """What records.Appender is to the processes that do not write: they know what is done, and make the rest too."""

    path: pathlib.Path
    done: list
    finished: bool

    def append(self, record: Any) -> None:
        """Nothing: the first process writes the same record."""

    def finish(self) -> None:
        """Notes that all is done."""
        self.finished = True


def claim(note: pathlib.Path, config: Any, *, inputs: Sequence[str], begun: bool = True) -> None:
    """Notes in `note` from what its neighbours are made: `config`, and fingerprints of the inputs.

    `inputs` names the fields of the config that are paths or tuples of paths: what lies there counts, not the path; so
    it does where a field names a Python file. ValueError when the note of an earlier run says otherwise, unless nothing
    was `begun` under it: whoever has put a mistake right goes on in the same folder.
    """
    now: Any = json.loads(json.dumps(dataclasses.asdict(config)))  # as the note gives it back: lists for tuples
    for name, value in now.items():
        if name in inputs and isinstance(value, list):
            now[name] = [fingerprint(pathlib.Path(path)) for path in value]
        elif value and (name in inputs or (isinstance(value, str) and value.endswith(".py"))):
            now[name] = fingerprint(pathlib.Path(value))
    if begun and note.exists() and (before := json.loads(note.read_text(encoding="utf-8"))) != now:
        old, new = _flat(before), _flat(now)
        name = next(name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name))
        made = note.with_name(note.name.removesuffix(".config.json"))
        given = _flat(dataclasses.asdict(config)).get(name)
        left, right = (_of_content(value) for value in (old.get(name), new.get(name)))
        was = "(other contents)" if left and right else left or repr(old.get(name))
        other = given if right else repr(new.get(name))
        raise ValueError(f"{made} was made with {name}={was}, now {name}={other}; use another --workdir, or empty this "
                         "one")
    if is_first():
        records.write_json(note, now)


def _of_content(value: Any) -> str:
    """What to call the fingerprint of a file or a folder, or of several; "" for a value that is none."""
    every = value if isinstance(value, list) else [value]
    is_one = every and all(isinstance(each, str) and re.fullmatch("[0-9a-f]{64}", each) for each in every)
    return "some file" if is_one else ""


def num_processes() -> int:
    """How many processes share this run; unlike jax.process_count(), does not take the accelerators to find out."""
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def from_first(make: Callable[[], bytes]) -> bytes:
    """What `make` gives on the first process, on every process of the run; all call this at the same place.

    Its ValueError or OSError is raised on all of them, so that none waits for one that has given up.
    """
    if num_processes() == 1:
        return make()
    from jax.experimental import multihost_utils

    said = b""
    if is_first():
        try:
            said = b"+" + make()
        except (ValueError, OSError) as error:
            said = b"-" + str(error).encode("utf-8", "replace")
    size = int(multihost_utils.broadcast_one_to_all(np.array(len(said), np.int32)))
    padded = np.zeros(size, np.uint8)
    padded[: len(said)] = np.frombuffer(said, np.uint8)
    said = multihost_utils.broadcast_one_to_all(padded).tobytes()
    if said[:1] == b"-":
        raise ValueError(said[1:].decode("utf-8"))
    return said[1:]


def write(path: pathlib.Path, some: Sequence[Any]) -> int:
    """records.write on the first process; the others go on when the file is there. Returns how many records."""
    return int(from_first(lambda: str(records.write(path, some)).encode()))


def is_first() -> bool:
    """Whether this process is the one of the run that writes what all share."""
    import jax

    return num_processes() == 1 or jax.process_index() == 0


def fingerprint(path: pathlib.Path) -> str:
    """A hash of a file, or of a checkpoint folder: of its json and safetensors files, the sizes and both ends.

    Weights are too large to be read twice, and training changes them everywhere. FileNotFoundError for no such path.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such file or folder", str(path))
    digest = hashlib.sha256()
    for part in sorted(path.iterdir()):
        if part.suffix in (".json", ".safetensors", ".model"):
            with part.open("rb") as file:
                size = part.stat().st_size
                digest.update(f"{part.name} {size} ".encode() + file.read(_END))
                file.seek(max(0, size - _END))
                digest.update(file.read())
    return digest.hexdigest()


def report(summary: Mapping[str, Any]) -> None:
    """Prints a stage's summary; of several processes the first one does.

    On a terminal a line for each of its names. Elsewhere one line of words name=value, quoted as a shell has it
    (shlex.split takes it apart); values that are neither text nor plain numbers are JSON.
    """
    if not is_first():
        return
    if not sys.stdout.isatty():
        print(" ".join(f"{name}={shlex.quote(_plain(value))}" for name, value in summary.items()))
        return
    flat = {name.replace("_", " ").replace(".", ", "): value for name, value in _flat(dict(summary)).items()}
    width = max(map(len, flat))
    for name, value in flat.items():
        print(f"  {name:<{width}}  {_readable(value)}")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return ", ".join(map(_readable, value)) if isinstance(value, list | tuple) else str(value)


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
