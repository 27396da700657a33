"""The page of `libra STAGE --help`: what the stage is for, examples, every field with its default and its sentence.

All of it is read from what is there already: the module's docstring, the config's types, and the "Attributes:" section
of each config's docstring.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

from libra_jax import config as configs

WIDTH = 110
_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_FLAGS = """\
flags:
  --workdir=DIR          where results go (needed); a stage that was killed goes on from what lies there
  --config=FILE          a .py file such as those of configs/, whose get_config() gives what the fields start from
  --config.FIELD=VALUE   sets a field; several values are separated by commas
  --dry_run              looks at fields, inputs and devices, says what would be read and written, and writes nothing
  --debug                shows the traceback of a mistake, too
"""
_STATUS = """\
exit status:
  0    done
  2    a mistake that you can mend, told in a line or two
  1    a bug, with its traceback
  143  stopped by SIGTERM (training saves first), 130 by Ctrl-C: the same command goes on
What a run says, and the traceback of any error, is kept in log.txt of the workdir."""


def text(name: str, doc: str, default: Any) -> str:
    """The page of stage `name`, whose module has the docstring `doc` and whose config is `default`."""
    fields = "\n".join(_fields(default, ""))
    usage = f"usage: libra {name} --workdir=DIR [--config=FILE] [--config.FIELD=VALUE ...]"
    return (f"{usage}\n\n{doc.strip()}\n\n{_FLAGS}\nfields, with their defaults:\n{fields}\n\n{_STATUS}")


def _fields(config: Any, prefix: str) -> Iterator[str]:
    """The lines of the fields of a config, plain ones first, then its groups under their headings."""
    said = explanations(type(config))
    groups = [field.name for field in dataclasses.fields(config)
              if dataclasses.is_dataclass(getattr(config, field.name))]
    for field in dataclasses.fields(config):
        if field.name not in groups:
            path = prefix + field.name
            flag = f"  --config.{path}={_plain(getattr(config, field.name))}"
            yield from _beside(flag, kind(config, field.name))
            yield from _indented(said.get(field.name, ""), 6)
    for name in groups:
        yield ""
        yield from _indented(f"{prefix}{name}: {said.get(name, '')}".rstrip(": "), 2)
        yield from _fields(getattr(config, name), f"{prefix}{name}.")


def _beside(flag: str, words: str) -> Iterator[str]:
    """The flag, and behind it, on a column of its own, what it takes."""
    column = max(46, len(flag) + 2)
    if column + min(len(words), 40) > WIDTH:
        yield flag
        column, flag = 46, ""
    lines = textwrap.wrap(words, max(WIDTH - column, 30)) or [""]
    yield f"{flag:<{column}}{lines[0]}".rstrip()
    yield from (" " * column + line for line in lines[1:])


def _indented(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, WIDTH, initial_indent=" " * width, subsequent_indent=" " * width,
                         break_on_hyphens=False, break_long_words=False)


def kind(config: Any, name: str) -> str:
    """What the field `name` of a config takes, in words."""
    mark = configs.mark(config, name)
    hint = typing.get_type_hints(type(config))[name]
    several = typing.get_origin(hint) is tuple
    if isinstance(mark, configs.Checkpoint):
        return "folder of a checkpoint" + (", or several" if several else "")
    if isinstance(mark, configs.File):
        words = ("files" if several else "file") + (f" of {mark.record.__name__}" if mark.record else "")
        return words + (", or folders" if mark.folder and several else ", or folder" if mark.folder else "")
    return _kind(hint)


def _kind(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("none" if arg is type(None) else _kind(arg) for arg in args)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(arg) or '""' for arg in args)
    if origin is tuple:
        return f"{_kind(args[0])}s" if args[0] is not bool else "several of true or false"
    return _KINDS.get(hint, str(hint))


def _plain(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def explanations(cls: type) -> dict[str, str]:
    """Field name -> what the "Attributes:" section of the docstring says of it; of "a, b: text" both have the text."""
    lines = inspect.cleandoc(cls.__doc__ or "").split("\n")
    if "Attributes:" not in lines:
        return {}
    lines = lines[lines.index("Attributes:") + 1:]
    indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        start = re.fullmatch(rf" {{{indent}}}(\w+(?:, \w+)*): (.*)", line)
        if start:
            names = start[1].split(", ")
            found |= dict.fromkeys(names, start[2])
        elif not line.strip() or len(line) - len(line.lstrip()) <= indent:
            break
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
