"""Typed configs: frozen keyword-only dataclasses, whose every field absl flags override (`--config.a.b=value`)."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib.util
import json
import pathlib
import sys
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


class ConfigError(ValueError):
    """A config that cannot be: the message names the field, the value, what was expected, and the nearest field."""


@dataclasses.dataclass(frozen=True)
class File:
    """Says of a field, as `Annotated[str, File(Problem)]`, that it names a file; of a tuple, that it names several.

    `record` is what its JSON lines hold; None where that is not always the same, and then `folder`: it may be one.
    """

    record: type | None = None
    folder: bool = False


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Says of a field, as `Annotated[str, Checkpoint()]`, that it names a folder in Hugging Face format.

    `tokenizer`: it must have one.
    """

    tokenizer: bool = True


def override(config: C, path: str, text: str, *, group: str = "") -> C:
    """Returns `config` with the field at dotted `path` read from `text` as the field's own type.

    Tuples are comma-separated. Raises ConfigError for an unknown field (naming the nearest) or an unreadable value;
    `group` is where `config` stands in the one that is told of, such as "judge.".
    """
    name, _, rest = path.partition(".")
    fields = {field.name: field for field in dataclasses.fields(config)}
    if name not in fields:
        every = field_paths(config)
        near = difflib.get_close_matches(path, every, 1, 0.4) or difflib.get_close_matches(name, list(fields), 1, 0)
        raise ConfigError(f"--config.{group}{path}: there is no such field; the nearest is "
                          f"--config.{group}{near[0]}")
    value = getattr(config, name)
    if rest:
        if not dataclasses.is_dataclass(value):
            raise ConfigError(f"--config.{group}{path}: {name!r} is a plain value; it has no field {rest!r}")
        return dataclasses.replace(config, **{name: override(value, rest, text, group=f"{group}{name}.")})
    if dataclasses.is_dataclass(value):
        inner = ", ".join(field.name for field in dataclasses.fields(value))
        raise ConfigError(f"--config.{group}{path}={text} is a group; give one of its fields: {inner}")
    hint = typing.get_type_hints(type(config))[name]
    return dataclasses.replace(config, **{name: _read(hint, text, group + path)})


def field_paths(config: Any, prefix: str = "") -> list[str]:
    """All dotted paths of the plain fields of a config, in declared order."""
    paths = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        here = prefix + field.name
        paths += field_paths(value, here + ".") if dataclasses.is_dataclass(value) else [here]
    return paths


def value(config: Any, path: str) -> Any:
    """The value of the field at dotted `path`."""
    return functools.reduce(getattr, path.split("."), config)


def mark(config: Any, path: str) -> File | Checkpoint | None:
    """What the field at dotted `path` is said to name; None for a plain one."""
    *groups, name = path.split(".")
    owner = type(value(config, ".".join(groups)) if groups else config)
    hint = typing.get_type_hints(owner, include_extras=True)[name]
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, File | Checkpoint)), None)


def to_json(config: Any) -> str:
    """The config as indented JSON, for the run's own record of what it was given."""
    return json.dumps(dataclasses.asdict(config), indent=2, default=str)


def load(path: str, cls: type[C]) -> C:
    """Runs `get_config()` of a configs/*.py file (your own trusted code) and checks that it gives a `cls`."""
    module = execute(path, "--config")
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"--config={path} has no get_config(); expected Python with a function get_config() that "
                          "returns the stage's config")
    try:
        config = module.get_config()
    except Exception as error:
        raise ConfigError(f"--config={path}: get_config() raises {type(error).__name__}: {error}; expected it to "
                          "return the stage's config") from error
    if not isinstance(config, cls):
        raise ConfigError(f"--config={path} is a config of {_stage(type(config))}; this stage takes one of "
                          f"{_stage(cls)}")
    return config


def _stage(cls: type) -> str:
    room, _, name = cls.__module__.rpartition(".")
    is_stage = room == "libra_jax.stages" and cls.__name__ == "Config"
    return f"libra {name}" if is_stage else f"{cls.__module__}.{cls.__name__}"


def execute(path: str, flag: str) -> types.ModuleType:
    """Runs a Python file that `flag` names (your own trusted code); ConfigError when it is none, or what it raises."""
    file = pathlib.Path(path)
    shipped = pathlib.Path(__file__).parent / path  # a wheel has configs/ in the package
    if not file.is_file() and path.startswith("configs/") and shipped.is_file():
        file = shipped
    spec = importlib.util.spec_from_file_location(f"libra_config_{file.stem}", file)
    if not file.is_file() or spec is None or spec.loader is None:  # without: not a .py file
        raise ConfigError(f"{flag}={path}: no such file, or not a .py one; expected a Python file, such as "
                          "those of configs/")
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


def _read(hint: Any, text: str, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if type(None) in args and text.lower() in ("none", ""):
            return None
        return _read(next(arg for arg in args if arg is not type(None)), text, path)
    if origin is typing.Literal:
        if text not in args:
            raise ConfigError(f"--config.{path}={text}: expected one of {', '.join(map(str, args))}")
        return text
    if origin is tuple:
        return tuple(_read(args[0], part.strip(), path) for part in text.split(",") if part.strip())
    if hint is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ConfigError(f"--config.{path}={text}: expected true or false")
        return text.lower() in ("true", "1")
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            wanted = {int: "a whole number", float: "a number"}[hint]
            raise ConfigError(f"--config.{path}={text}: expected {wanted}") from None
    if hint is str:
        return text
    raise ConfigError(f"--config.{path}: a field of type {hint} cannot be given on the command line; set it in a "
                      "config file")


__all__ = ["Checkpoint", "ConfigError", "File", "apply", "execute", "field_paths", "load", "mark", "override", "parse",
           "to_json", "value"]
