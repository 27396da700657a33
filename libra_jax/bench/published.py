"""Rows of published tables: parquet, JSON and JSON lines (these also gzipped), in a file, a folder, or on the Hub.

Files are untrusted: nothing in them is run, and a line, and a file that must be read whole, have a longest size.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import os
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, cast

SUFFIXES = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz")
LONGEST = 2**24  # bytes of a line
LARGEST = 2**28  # bytes of a JSON array, which is parsed at once
_HUB = re.compile(r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+)"
                  r"(@(?P<revision>refs/(?:convert|pr)/[\w.-]+|[\w.~-]+(?:%2F[\w.-]+)*))?(?P<inside>(?:/[^/]+)+)?/?")
_HUB_FORMS = ("hf://datasets/OWNER/NAME or hf://datasets/OWNER/NAME@REVISION, and if wished the path of a file or "
              "folder in it, such as /main/train-*.parquet")
_EXTRA = 'is not installed; pip install "libra_jax[data]"'


class LayoutError(ValueError):
    """A file without the columns that a row must have; the message names those that it has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row by its number in its file, from 1 (a line's, where the file has lines).

    Attributes:
      number: as above.
      fields: column -> value; None where there is no row to read.
      text: the row as the file has it, cut off, to show.
      error: why `fields` is None.
    """

    number: int
    text: str
    fields: dict[str, Any] | None
    error: str = ""


class Aside:
    """Rows that do not fit: each as "file:number: error" in `rejected`, and whole in the file `path` when there is one.

    Without a list (`rejected` None) the first one is raised instead. The file is made when it is needed.
    """

    def __init__(self, rejected: list[str] | None, path: str | os.PathLike | None):
        self._rejected, self._path = rejected, path
        self._sink: IO[str] | None = None

    def add(self, file: str | os.PathLike, row: Row, error: ValueError) -> None:
        """Notes a row of `file` and why it does not fit."""
        where = f"{file}:{row.number}: {error}"
        if self._rejected is None:
            raise type(error)(where) from None
        self._rejected.append(where)
        if self._path:
            self._sink = self._sink or pathlib.Path(self._path).open("w", encoding="utf-8")
            note = {"file": str(file), "line": row.number, "error": str(error), "text": row.text}
            self._sink.write(json.dumps(note) + "\n")

    def close(self) -> None:
        """Closes the file."""
        if self._sink:
            self._sink.close()


def resolve(path: str | os.PathLike) -> pathlib.Path:
    """`path` itself, or where the dataset files of hf://datasets/OWNER/NAME@REVISION/PATH were downloaded to.

    The revision is a branch (of "a/b" write a%2Fb), tag or commit; "main" by default. PATH is a file, a folder or a
    pattern with * in the dataset's repository, all of it by default, as in Hugging Face's own file system. Files that
    lie in the cache already are not fetched again; its folder is named by the commit. ValueError where nothing can be
    had, with what to do.
    """
    if not str(path).startswith("hf://"):
        return pathlib.Path(path)
    parts = _HUB.fullmatch(str(path))
    if not parts or ".." in (parts["inside"] or "").split("/"):
        raise ValueError(f"{path}: expected {_HUB_FORMS}")
    name, revision = parts["name"], (parts["revision"] or "main").replace("%2F", "/")
    inside = (parts["inside"] or "").lstrip("/")
    wanted = [f"{inside}/*{suffix}" if inside else f"*{suffix}" for suffix in SUFFIXES] + ([inside] if inside else [])
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError(f"{path}: huggingface_hub {_EXTRA}, or give a local copy") from None
    try:
        folder = pathlib.Path(huggingface_hub.snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=wanted))
    except Exception as error:  # of the Hub, of its HTTP library or of the network; they share no class
        why = " ".join(str(error).split())[:500] or type(error).__name__
        raise ValueError(
            f"{path}: not downloaded: {why}; check the name and the revision, log in where the dataset is gated (`hf "
            f"auth login`), or, where there is no network, give a copy: `hf download --repo-type dataset {name} "
            "--local-dir DIR` on another machine, then the path DIR here") from error
    return folder / inside


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The file `path`, or all files of the folder `path` that may hold rows, sorted; hidden ones are left out.

    Parts of a path that is not there may be patterns, with `*` and `?`: then all files that match. FileNotFoundError
    for no such path, ValueError for a folder without such files or a file of another kind.
    """
    if not path.exists():
        fixed = list(itertools.takewhile(lambda part: not set("*?") & set(part), path.parts))
        found = sorted(pathlib.Path(*fixed).glob(str(pathlib.PurePath(*path.parts[len(fixed):])))) if (
            len(fixed) < len(path.parts)) else []
        if not found:
            raise FileNotFoundError(f"{path}: no such file or folder")
        return [file for each in found for file in files(each)]
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.name.endswith(SUFFIXES)
                 and not any(part.startswith(".") for part in file.relative_to(path).parts)]
        if not found:
            raise ValueError(f"{path}: no file in this folder ends in one of {', '.join(SUFFIXES)}")
        return found
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")
    return [path]


def stem(file: pathlib.Path) -> str:
    """A file's name without its suffix of SUFFIXES."""
    return file.name.removesuffix(".gz").rpartition(".")[0]


def need(columns: Iterable[str], there: Iterable[str]) -> None:
    """Raises LayoutError, naming all columns that are `there`, when one of `columns` is not."""
    if missing := [name for name in columns if name not in there]:
        raise LayoutError(f"it lacks {', '.join(missing)}; it has {', '.join(there) or 'no columns'}")


def read(file: pathlib.Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Iterator[Row]:
    """Streams the rows of one file; of parquet, `columns` alone (none given: all), in batches.

    LayoutError when a parquet file lacks one of them that is not `optional` (the fields of JSON are the caller's to
    check); ValueError for a damaged file, one of another kind, or a JSON array above LARGEST bytes.
    """
    if file.name.endswith(".parquet"):
        yield from _parquet(file, columns, optional)
        return
    packed = file.name.endswith(".gz")
    try:
        with cast(IO[bytes], gzip.open(file, "rb")) if packed else file.open("rb") as source:
            yield from _array(source, file) if _is_array(source, file.name) else _lines(source)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{file}: damaged: {error}") from None


def _parquet(file: pathlib.Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{file}: pyarrow {_EXTRA}, or give a copy in JSON lines") from None
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            there = table.schema_arrow.names
            need([name for name in columns if name not in optional], there)
            batches = table.iter_batches(batch_size=64,
                                         columns=[name for name in columns if name in there] if columns else None)
            for number, fields in enumerate((fields for batch in batches for fields in batch.to_pylist()), 1):
                yield Row(number=number, text=str(fields)[:10_000], fields=fields)
    except LayoutError as error:
        raise LayoutError(f"{file}: {error}") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{file}: not a parquet file, or damaged: {error}") from None


def _is_array(source: IO[bytes], name: str) -> bool:
    if name.removesuffix(".gz").endswith(".jsonl"):
        return False
    first = source.read(4096).lstrip()[:1]
    source.seek(0)
    return first == b"["


def _array(source: IO[bytes], file: pathlib.Path) -> Iterator[Row]:
    data = source.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"{file}: a JSON array of more than {LARGEST:,} bytes; give it as JSON lines")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON: {error}") from None
    for number, value in enumerate(values, 1):
        yield _row(number, str(value)[:10_000], value)


def _lines(source: IO[bytes]) -> Iterator[Row]:
    number = 0
    while line := source.readline(LONGEST):
        number += 1
        text = line[:40_000].decode("utf-8", "replace").rstrip("\n")[:10_000]
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while (rest := source.readline(LONGEST)) and not rest.endswith(b"\n"):
                pass
            yield Row(number=number, text=text, fields=None, error=f"a line of more than {LONGEST:,} bytes")
        elif line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Row(number=number, text=text, fields=None, error=f"not JSON: {error}")
            else:
                yield _row(number, text, value)


def _row(number: int, text: str, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(number=number, text=text, fields=value)
    return Row(number=number, text=text, fields=None, error=f"expected a JSON object, found {type(value).__name__}")
