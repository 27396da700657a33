"""What a run has written, told at its end: on a terminal a line for each file, elsewhere one line in all."""

from __future__ import annotations

import fnmatch
import pathlib
import sys
import time
from collections.abc import Iterator

MOST = 12  # lines on a terminal
NOTES = ("*config.json", "log*.txt")  # what every run leaves beside


def tell(name: str, workdir: pathlib.Path, since: float) -> None:
    """Tells on stderr what `workdir` holds that is not older than `since` (seconds since the epoch)."""
    found = list(new(workdir, since))
    took = f"done in {_span(time.time() - since)}: libra {name}"
    if not found:
        print(f"{took} wrote nothing new: an earlier run had done it all in {workdir}", file=sys.stderr)
    elif not sys.stderr.isatty():
        print(f"{took} wrote {', '.join(each for each, _, _ in found)} to {workdir}", file=sys.stderr)
    else:
        print(f"{took} wrote to {workdir}:", file=sys.stderr)
        width = max(len(each) for each, _, _ in found[:MOST])
        for each, count, size in found[:MOST]:
            print(f"  {each:<{width}}  {_size(size):>9}{f', {count} files' if each.endswith('/') else ''}",
                  file=sys.stderr)
        if len(found) > MOST:
            print(f"  and {len(found) - MOST} more", file=sys.stderr)


def new(workdir: pathlib.Path, since: float) -> Iterator[tuple[str, int, int]]:
    """(name, number of files, bytes) of what is new, folders as one whose name ends in "/"; without log and config."""
    for path in sorted(workdir.iterdir()):
        if any(fnmatch.fnmatch(path.name, each) for each in NOTES):
            continue
        every = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        stats = [file.stat() for file in every]
        fresh = [each for each in stats if each.st_mtime >= since - 0.01]  # of file systems with coarse clocks
        if fresh:
            yield path.name + "/" * path.is_dir(), len(fresh), sum(each.st_size for each in fresh)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
