"""Writes docs/reference.md: every stage's fields, from its config's types, defaults and docstrings.

    python launch/reference.py

tests/docs/reference_test.py says when the page is not what the code says. A group of fields that several stages have
(sampling, train, ...) is a section of its own; a stage's row names those of which the stage has other defaults.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pathlib
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

from libra_jax import config as configs
from libra_jax.stages import cli

PAGE = pathlib.Path(__file__).parents[1] / "docs/reference.md"
HEAD = """# Reference

<!-- Written by `python launch/reference.py`; change the docstrings and not this page. -->

Every field of every stage, as `libra STAGE --help` has them, with what its default is. On the command line a field is
`--config.NAME=VALUE`, one of a group `--config.GROUP.NAME=VALUE`; several values are separated by commas. In a file for
`--config=FILE` it is an argument of the stage's `Config`. What stages read and write: [stages](stages.md).

"""
_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def text() -> str:
    """The whole page."""
    groups = sorted({cls for stage in _stages() for cls in _classes(stage())} - {*_stages()}, key=_title)
    parts = [HEAD, "Stages: ", ", ".join(map(_link, _stages())), ".\n\nGroups: ", ", ".join(map(_link, groups)), ".\n"]
    for cls, name in _stages().items():
        doc = inspect.cleandoc(importlib.import_module(f"libra_jax.stages.{name}").__doc__)
        examples = re.sub(r"(?<=\S) {5,}--", " \\\n        --", "\n".join(re.findall(r"^    .*$", doc, re.MULTILINE)))
        parts += [f"\n## {name}\n\n{_prose(doc.partition(chr(10))[0])}\n\n", f"{examples}\n\n" if examples else "",
                  *_table(cls())]
    parts.append("\n## Groups\n")
    for cls in groups:
        about = (cls.__doc__ or "").partition("Attributes:")[0].strip()
        parts += [f"\n### {_title(cls)}\n\n", f"{_prose(about)}\n\n" if about else "", *_table(cls())]
    return "".join(parts)


@functools.cache
def _stages() -> dict[type, str]:
    """The config of every stage, with the stage's name."""
    return {type(importlib.import_module(f"libra_jax.stages.{name}").Config()): name for name in cli.stages()}


def _classes(config: Any) -> Iterator[type]:
    """The classes of all groups within a config, theirs too."""
    for value in (getattr(config, field.name) for field in dataclasses.fields(config)):
        if dataclasses.is_dataclass(value):
            yield type(value)
            yield from _classes(value)


def _title(cls: type) -> str:
    """A heading: a stage's name, or a group's class, said with its stage where it is a stage's own."""
    stage = cls.__module__.removeprefix("libra_jax.stages.")
    return _stages().get(cls) or (cls.__name__ if stage == cls.__module__ else f"{cls.__name__} of {stage}")


def _link(cls: type) -> str:
    return f"[{_title(cls)}](#{_title(cls).lower().replace(' ', '-')})"


def _table(config: Any) -> Iterator[str]:
    """The rows of a config's fields, plain ones and groups in declared order."""
    yield "| field | takes | default | |\n|---|---|---|---|\n"
    said, hints = explanations(type(config)), typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, words = getattr(config, field.name), _prose(said.get(field.name, ""))
        if dataclasses.is_dataclass(value):
            cls = type(value)
            others = ", ".join(f"`{path}={_plain(each)}`" for path, each in _differences(value, cls()))
            yield f"| `{field.name}` | {_link(cls)} | {others and 'with ' + others} | {words} |\n"
        else:
            yield f"| `{field.name}` | {kind(hints[field.name])} | {_code(_plain(value))} | {words} |\n"


def _differences(config: Any, default: Any) -> Iterator[tuple[str, Any]]:
    """The dotted paths, and values, at which a config differs from the default of its class."""
    for path in configs.field_paths(config):
        here, there = config, default
        for name in path.split("."):
            here, there = getattr(here, name), getattr(there, name)
        if here != there:
            yield path, here


def kind(hint: Any) -> str:
    """What a field of this type takes, in words."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("none" if arg is type(None) else kind(arg) for arg in args)
    if origin is typing.Literal:
        return ", ".join(_code(str(arg)) or "nothing" for arg in args)
    if origin is tuple:
        return f"{kind(args[0])}, several"
    return _KINDS.get(hint, _code(getattr(hint, "__name__", str(hint))))


def explanations(cls: type) -> dict[str, str]:
    """Field name -> what the docstring's "Attributes:" section says of it; of "a, b: text" both have the text."""
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    names, lines = {field.name for field in dataclasses.fields(cls)}, textwrap.dedent(section)
    starts = [match for match in re.finditer(r"(?:^|(?<=[.;] ))(\w+(?:, \w+)*): ", lines, re.MULTILINE)
              if set(match[1].split(", ")) <= names]
    found: dict[str, str] = {}
    for match, end in zip(starts, [*(each.start() for each in starts[1:]), None], strict=False):
        found |= dict.fromkeys(match[1].split(", "), lines[match.end():end])
    return found


def _prose(words: str) -> str:
    """Words of a docstring within Markdown: on one line, and nothing in them is markup but `code`."""
    parts = re.split(r"(`[^`]*`)", " ".join(words.split()))
    parts[::2] = [re.sub(r"([\\*_<>\[\]])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts).replace("|", "\\|")


def _plain(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _code(words: str) -> str:
    return f"`{words}`".replace("|", "\\|").replace("\n", "\\n") if words else ""


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
