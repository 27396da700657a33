"""Model families that a user brings: laid out as one that ships, with what differs told by two functions.

Found by the name that config.json gives as `model_type`: registered from Python, or an entry point of GROUP in an
installed package. Either is the user's own trusted code.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from libra_jax.model.config import ModelConfig

GROUP = "libra_jax.families"  # of entry points
_REGISTERED: dict[str, Family] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A family of which layers, config.json and the names of tensors are those of `like`, but for what is said here.

    Attributes:
      like: a name of model/config.py's FAMILIES.
      architecture: the class of transformers that config.json names.
      read: what of a parsed config.json differs: fields of ModelConfig, over those that `like` reads.
      write: its inverse: fields of config.json, over those that `like` writes.
    """

    like: str
    architecture: str
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda values: {}
    write: Callable[[ModelConfig], Mapping[str, Any]] = lambda config: {}


def register(name: str, family: Family) -> None:
    """Adds a family for this process under its `model_type`. ValueError where the name has one already."""
    if find(name) not in (None, family):
        raise ValueError(f"the family {name!r} is known already, as {find(name)}; give yours another model_type")
    _REGISTERED[name] = family


def find(name: str) -> Family | None:
    """The family of this name, or None. ValueError for an entry point that gives none."""
    return _REGISTERED.get(name) or _of_entry_point(name)


@functools.cache
def _of_entry_point(name: str) -> Family | None:
    for point in importlib.metadata.entry_points(group=GROUP, name=name):
        found = point.load()
        if not isinstance(found, Family):
            raise ValueError(f"the entry point {name!r} of {GROUP} is {found!r:.60}; expected a "
                             "libra_jax.model.families.Family")
        return found
    return None
