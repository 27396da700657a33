"""The fields of a request's JSON object: read by name and type, with a refusal that says what was expected."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from typing import Any

from libra_jax.serving.http import Refused

_COOLEST = 0.01
_SHOWN = 60  # characters of a value in a message


class Fields:
    """A JSON object of which every field is asked for once; null counts as absent. Refused for all that is wrong."""

    def __init__(self, raw: Any, where: str = ""):
        if not isinstance(raw, dict):
            raise Refused(400, f"{where or 'the body'}: expected a JSON object, found {_kind(raw)}")
        self._where = f"{where}." if where else ""
        self._raw = {name: value for name, value in raw.items() if value is not None}
        self._asked: set[str] = set()

    def take(self, name: str, default: Any = None) -> Any:
        """The field's value as it is, or `default`."""
        self._asked.add(name)
        return self._raw.get(name, default)

    def text(self, name: str, default: str | None = None) -> str:
        """A string; needed where there is no default."""
        value = self.take(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def count(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        value = self.take(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(name, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number from `least` to `most`."""
        value = self.take(name, default)
        if type(value) not in (int, float) or not least <= value <= most:
            raise self.wrong(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def temperature(self, default: float) -> float:
        """A temperature: 0, or not so near to it that logits divided by it overflow."""
        value = self.number("temperature", default, 0, 100)
        if 0 < value < _COOLEST and value != default:
            raise self.wrong("temperature", f"0, or a number from {_COOLEST} to 100")
        return value

    def fixed(self, name: str, *expected: Any) -> None:
        """A field that may only say what is so anyway."""
        if self.take(name, expected[0]) not in expected:
            raise self.wrong(name, " or ".join(json.dumps(each) for each in expected) + ", which is all there is here")

    def wrong(self, name: str, expected: str) -> Refused:
        """A refusal of this field."""
        found = f"found {_kind(self._raw[name])}" if name in self._raw else "it is missing"
        return Refused(400, f"{self._where}{name}: expected {expected}; {found}")

    def end(self, ignored: Collection[str] = ()) -> None:
        """Refuses fields that nobody asked for, so that none is silently without effect."""
        for name in sorted(self._raw.keys() - self._asked - set(ignored)):
            near = difflib.get_close_matches(name[:_SHOWN], sorted(self._asked), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Refused(400, f"{self._where}{name[:_SHOWN]}: not supported here{hint} (supported: "
                               f"{', '.join(sorted(self._asked))})")


def read(body: bytes) -> Any:
    """The JSON value of a body. Refused for what is none."""
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON in UTF-8: {str(error)[:200]}") from None


def _kind(value: Any) -> str:
    """A value as messages show it: cut, and texts and containers by their type alone."""
    if isinstance(value, (int, float)):
        return repr(value)[:_SHOWN]
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return {dict: "an object", str: "a string"}.get(type(value), "null")
