"""Typed configs: frozen keyword-only dataclasses, whose every field absl flags override (`--config.a.b=value`)."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib.util
import json
import os
import pathlib
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from absl import flags, logging

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


class ConfigError(ValueError):
    """A config that cannot be: the message names the field, the value, what was expected, and the nearest field."""


def override(config: C, path: str, text: str) -> C:
    """Returns `config` with the field at dotted `path` read from `text` as the field's own type.

    Tuples are comma-separated. Raises ConfigError for an unknown field (naming the nearest) or an unreadable value.
    """
    name, _, rest = path.partition(".")
    fields = {field.name: field for field in dataclasses.fields(config)}
    if name not in fields:
        every = field_paths(config)
        near = difflib.get_close_matches(path, every, 1, 0.4) or difflib.get_close_matches(name, list(fields), 1, 0)
        raise ConfigError(f"{type(config).__name__} has no field {path!r}; the nearest is {near[0]!r}")
    value = getattr(config, name)
    if rest:
        if not dataclasses.is_dataclass(value):
            raise ConfigError(f"{name!r} is a plain value; it has no field {rest!r}")
        return dataclasses.replace(config, **{name: override(value, rest, text)})
    if dataclasses.is_dataclass(value):
        inner = ", ".join(field.name for field in dataclasses.fields(value))
        raise ConfigError(f"{path!r} is a group; override one of its fields: {inner}")
    hint = typing.get_type_hints(type(config))[name]
    return dataclasses.replace(config, **{name: _read(hint, text, path)})


def field_paths(config: Any, prefix: str = "") -> list[str]:
    """All dotted paths of the plain fields of a config, in declared order."""
    paths = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        here = prefix + field.name
        paths += field_paths(value, here + ".") if dataclasses.is_dataclass(value) else [here]
    return paths


def to_json(config: Any) -> str:
    """The config as indented JSON, for the run's own record of what it was given."""
    return json.dumps(dataclasses.asdict(config), indent=2, default=str)


def load(path: str, cls: type[C]) -> C:
    """Runs `get_config()` of a configs/*.py file (your own trusted code) and checks that it gives a `cls`."""
    module = execute(path, "--config")
    try:
        config = module.get_config()
    except Exception as error:
        raise ConfigError(f"--config={path}: {type(error).__name__}: {error}; expected Python with a function "
                          "get_config() that returns the stage's config") from error
    if not isinstance(config, cls):
        raise ConfigError(f"--config={path} is a {type(config).__module__}.{type(config).__name__}; "
                          f"this stage takes {cls.__module__}.{cls.__name__}")
    return config


def execute(path: str, flag: str) -> types.ModuleType:
    """Runs a Python file that `flag` names (your own trusted code); ConfigError when it is none, or what it raises."""
    file = pathlib.Path(path)
    shipped = pathlib.Path(__file__).parent / path  # a wheel has configs/ in the package
    if not file.is_file() and path.startswith("configs/") and shipped.is_file():
        file = shipped
    spec = importlib.util.spec_from_file_location(f"libra_config_{file.stem}", file)
    if not file.is_file() or spec is None or spec.loader is None:  # without: not a .py file
        raise ConfigError(f"{flag}={path}: no such file, or not a .py one; configs/ holds the ones that ship")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{flag}={path}: {type(error).__name__}: {error}") from error
    return module


def parse(argv: Sequence[str], default: C) -> tuple[C, list[str]]:
    """Takes `--config=FILE` and every `--config.field=value` out of `argv`; returns the config and what is left."""
    rest, overrides, index = [], [], 0
    argv = list(argv)
    while index < len(argv):
        item = argv[index]
        index += 1
        if item == "--config" or item.startswith("--config."):  # also "--config.field value"
            name, equals, value = item.partition("=")
            if not equals:
                if index >= len(argv):
                    raise ConfigError(f"{name} needs a value: {name}=VALUE")
                value = argv[index]
                index += 1
            if name == "--config":
                default = load(value, type(default))
            else:
                overrides.append((name.removeprefix("--config."), value))
        elif item.startswith("--config="):
            default = load(item.partition("=")[2], type(default))
        else:
            rest.append(item)
    return apply(default, overrides), rest


def apply(config: C, overrides: Sequence[tuple[str, str]]) -> C:
    """All overrides (dotted path, text) at once, so that fields that depend on each other may change together.

    ConfigError as `override`, or with what the config itself says of values that do not fit.
    """
    waiting, failure = list(overrides), None
    while waiting:
        left = []
        for path, text in waiting:
            try:
                config = override(config, path, text)
            except ConfigError:
                raise
            except ValueError as error:  # it may fit once another field has changed
                left.append((path, text))
                failure = f"--config.{path}={text}: {error}"
        if len(left) == len(waiting):
            raise ConfigError(failure)
        waiting = left
    return config


def main(run: Callable[[Any, pathlib.Path], Any], default: Any, argv: Sequence[str] | None = None) -> int:
    """The main of a stage: parses flags, prints help with every field and its default, calls run(config, workdir).

    `run` returns a JSON-able summary or None. Errors of the user's making (ConfigError, ValueError with a remedy, a
    file that cannot be read or written) end in one line and exit status 2, without a traceback unless --debug is
    given. run_config.json in the workdir is the config of the first run there and then of the last that succeeded.
    """
    argv = list(sys.argv if argv is None else argv)
    doc = sys.modules[run.__module__].__doc__ or ""
    try:
        config, rest = parse(argv[1:], default)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(rest):
        print(describe(doc, default))
        return 0
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", "", "Where results go; a stage that was killed goes on from what lies here.",
                        flag_values=values)
    flags.DEFINE_bool("debug", False, "Show tracebacks of errors.", flag_values=values)
    try:
        left = values([argv[0], *rest])
    except flags.Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if left[1:]:
        print(f"error: unexpected argument {left[1]!r}; fields are given as --config.name=value", file=sys.stderr)
        return 2
    if not values.workdir:
        print("error: --workdir is needed: a folder for the results", file=sys.stderr)
        return 2
    logging.set_verbosity(logging.WARNING)  # stages report their own progress
    workdir = pathlib.Path(values.workdir)
    note = workdir / "run_config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            note.write_text(to_json(config) + "\n", encoding="utf-8")
        run(config, workdir)
        note.write_text(to_json(config) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        if values.debug:
            raise
        print(f"error: {_told(error, config)}", file=sys.stderr)
        return 2
    return 0


def _told(error: Exception, config: Any) -> str:
    """The error in words; of the system's about a file, with the field that names it and where it is looked for."""
    if not isinstance(error, OSError) or not error.strerror or not isinstance(error.filename, str | os.PathLike):
        return str(error)
    name = os.fspath(error.filename)
    fields = [path for path in field_paths(config) if name in _texts(config, path)]
    where = "" if os.path.isabs(name) else f" (looked for in {os.getcwd()})"
    return f"{f'--config.{fields[0]}=' if fields else ''}{name}: {error.strerror.lower()}{where}"


def _texts(config: Any, path: str) -> tuple:
    value = functools.reduce(getattr, path.split("."), config)
    return value if isinstance(value, tuple) else (value,)


def describe(doc: str, default: Any) -> str:
    """Help text: the stage's docstring and every field with its default."""
    lines = [doc.strip(), "", "flags:", "  --workdir=DIR   where results go (needed)",
             "  --config=FILE   a configs/*.py file whose get_config() gives the starting point", "  --debug"]
    for path in field_paths(default):
        value = functools.reduce(getattr, path.split("."), default)
        lines.append(f"  --config.{path}={_show(value)}")
    return "\n".join(lines)


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read(hint: Any, text: str, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if type(None) in args and text.lower() in ("none", ""):
            return None
        return _read(next(arg for arg in args if arg is not type(None)), text, path)
    if origin is typing.Literal:
        if text not in args:
            raise ConfigError(f"{path}={text!r}: expected one of {', '.join(map(str, args))}")
        return text
    if origin is tuple:
        return tuple(_read(args[0], part.strip(), path) for part in text.split(",") if part.strip())
    if hint is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ConfigError(f"{path}={text!r}: expected true or false")
        return text.lower() in ("true", "1")
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise ConfigError(f"{path}={text!r}: expected {hint.__name__}") from None
    if hint is str:
        return text
    raise ConfigError(f"{path}: a field of type {hint} cannot be given on the command line; set it in a config file")


__all__ = ["ConfigError", "apply", "describe", "execute", "field_paths", "load", "main", "override", "parse", "to_json"]
