"""The log of a run's folder, which is its lock too: while a stage works there, no other one may.

log.txt has every line that a run prints, its warnings, and the traceback of an error, each run behind the one before.
The lock is the operating system's on that file (fcntl.lockf: of the process, not inherited, and good on NFS), so that a
killed run leaves none. Of several processes that share a run the first one alone takes it; the others write log.N.txt.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import socket
import sys
import time
from collections.abc import Iterator
from typing import IO, Any

NAME = "log.txt"
EVERY = 30.0  # seconds between two lines of a progress that is written over
_TAIL = 2**16  # bytes at the end of a log in which its last start is looked for
_open: list[_Log] = []


class _Log:
    """An open log; what cannot be written (a full disk) is let go, since the run itself will tell."""

    def __init__(self, path: pathlib.Path, file: IO[str]):
        self.path, self._file = path, file

    def line(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            self._file.write("".join(f"{now} {each}\n" for each in text.rstrip("\n").split("\n")))
            self._file.flush()


class _Tee:
    """A stream whose lines go to the log too; of a line that is written over, one every EVERY seconds."""

    def __init__(self, stream: IO[str], log: _Log):
        self._stream, self._log = stream, log
        self._rest, self._last = "", time.monotonic()

    def write(self, text: str) -> int:
        self._stream.write(text)
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._log.line(_shown(line))
        if "\r" in self._rest:
            self._rest = self._rest[self._rest.rindex("\r"):]
            if time.monotonic() - self._last >= EVERY:
                self._last = time.monotonic()
                self._log.line(_shown(self._rest))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _shown(line: str) -> str:
    return line.rpartition("\r")[2].replace("\x1b[K", "")


@contextlib.contextmanager
def kept(workdir: pathlib.Path, command: str) -> Iterator[None]:
    """Makes `workdir`, takes its lock and keeps its log while entered. ValueError where another run holds it."""
    workdir.mkdir(parents=True, exist_ok=True)
    number = process()
    path = workdir / (NAME if number == 0 else f"log.{number}.txt")
    with _closing(path.open("a", encoding="utf-8", errors="replace")) as file:
        if number == 0:
            _lock(file, workdir)
        opened = _Log(path, file)
        opened.line(f"--- {command} (process {os.getpid()} on {socket.gethostname()})")
        out, err = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = _Tee(out, opened), _Tee(err, opened)
        # Where nobody listens to the loggers, warnings go to stderr; the log has them in any case.
        warnings = logging.StreamHandler(sys.stderr if not logging.root.handlers else _Lines(opened))
        warnings.setLevel(logging.WARNING)
        logging.root.addHandler(warnings)
        _open.append(opened)
        try:
            yield
        finally:
            _open.remove(opened)
            logging.root.removeHandler(warnings)
            sys.stdout, sys.stderr = out, err


@contextlib.contextmanager
def _closing(file: IO[str]) -> Iterator[IO[str]]:
    """The file, closed at the end; what a full disk has left unwritten is let go of."""
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            file.close()


class _Lines:
    """The log alone, as logging's handlers want it."""

    def __init__(self, log: _Log):
        self._log = log

    def write(self, text: str) -> int:
        if text.strip():
            self._log.line(text)
        return len(text)

    def flush(self) -> None:
        pass


def note(text: str) -> None:
    """A line in the log alone, if one is open."""
    for each in _open[-1:]:
        each.line(text)


def place() -> str:
    """Where the open log lies; "" if none is."""
    return str(_open[-1].path) if _open else ""


def holder(workdir: pathlib.Path) -> str:
    """Who works in `workdir`, in words; "" if nobody does. Changes nothing."""
    path = workdir / NAME
    try:
        with path.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return ""
            except OSError as error:
                return _who(path) if _is_taken(error) else ""
    except OSError:
        return ""


def refusal(workdir: pathlib.Path, who: str) -> str:
    """What to tell someone whose workdir is in use."""
    return f"{workdir} is in use by {who}; expected a folder of one run; wait for that run, stop it, or give another " \
           "--workdir"


def _lock(file: IO[str], workdir: pathlib.Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if _is_taken(error):
            raise ValueError(refusal(workdir, _who(workdir / NAME))) from None
        # A storage without locks: then the user keeps runs apart.


def _is_taken(error: OSError) -> bool:
    return error.errno in (errno.EACCES, errno.EAGAIN)


def _who(path: pathlib.Path) -> str:
    """The last start that a log tells."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").split("\n")
    started = [line for line in lines if line[20:24] == "--- "]
    return f"{started[-1][24:]}, since {started[-1][:19]}" if started else "another run"


def process() -> int:
    """The number of this process in a run of several; does not import JAX, without which it is the only one."""
    if "jax" not in sys.modules:
        return 0
    from libra_jax import runs

    return 0 if runs.is_first() else sys.modules["jax"].process_index()
