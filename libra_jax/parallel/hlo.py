"""What a compiled program says of itself: memory of each device, and collectives inside and outside the layer loop."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# The text of an optimized program is there only with this (facts of libtpu 0.0.42 and 0.0.52).
READABLE = {"xla_tpu_offload_gather_to_sparsecore": False}
_BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "f32": 4,
          "s64": 8, "u64": 8, "f64": 8, "c64": 8}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.\-]+)")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_SHAPE = re.compile(r"\b([a-z]\w*?)\[([\d,]*)\]")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """A kind of collective in one place: `bytes` that its results hold on a device, over all its `runs` in one call."""

    kind: str
    in_layers: bool
    runs: int
    bytes: int
    largest: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device: arguments and results (those that share memory counted once), and temporaries."""

    arguments: int
    results: int
    aliased: int
    temporaries: int
    code: int
    host: int

    @property
    def total(self) -> int:
        """What the program needs while it runs."""
        return self.arguments + self.results - self.aliased + self.temporaries + self.code


def memory(compiled: Any) -> Memory:
    """Of a jax.stages.Compiled."""
    said = compiled.memory_analysis()
    return Memory(arguments=said.argument_size_in_bytes, results=said.output_size_in_bytes,
                  aliased=said.alias_size_in_bytes, temporaries=said.temp_size_in_bytes,
                  code=said.generated_code_size_in_bytes, host=said.host_temp_size_in_bytes)


def collectives(text: str, num_layers: int) -> list[Collective]:
    """The collectives of an optimized program's text, by kind and by whether they run in a loop over the layers.

    Such a loop is one of `num_layers` rounds, or of one less where the compiler has taken the first or last layer out
    of it (which then counts as outside). A loop over as many parts of a batch would be taken for one.
    """
    bodies = _computations(text)
    entry = re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)
    found: dict[tuple[str, bool], list[tuple[int, float]]] = collections.defaultdict(list)
    places = _places(bodies, entry.group(1), num_layers) if entry else {}
    for name in places:
        for line in bodies.get(name, ()):
            match = _COLLECTIVE.search(line)
            kind = match.group(2) if match else None
            if kind is None and "calls=%all-reduce-scatter" in line:
                kind = "reduce-scatter"
            if kind is None or (kind == "all-reduce" and name.startswith("all-reduce-scatter")):
                continue
            size = _size(match.group(1) if match else line.partition("= ")[2].partition(" fusion(")[0],
                         started=bool(match and match.group(3)))
            for runs, inside in places[name]:
                found[kind, inside].append((runs, size))
    return [Collective(kind=kind, in_layers=inside, runs=sum(runs for runs, _ in every),
                       bytes=int(sum(runs * size for runs, size in every)), largest=int(max(s for _, s in every)))
            for (kind, inside), every in sorted(found.items())]


def _computations(text: str) -> dict[str, list[str]]:
    bodies: dict[str, list[str]] = {}
    name = None
    for line in text.splitlines():
        match = _COMPUTATION.match(line)
        if match:
            name = match.group(1)
            bodies[name] = []
        elif line.rstrip() == "}":  # kernels have metadata of several lines, which may begin with a brace
            name = None
        elif name is not None:
            bodies[name].append(line)
    return bodies


def _places(bodies: dict[str, list[str]], entry: str, num_layers: int) -> dict[str, list[tuple[int, bool]]]:
    """For each computation: in how many places it is called, each as (runs, whether inside a loop over layers)."""
    places: dict[str, list[tuple[int, bool]]] = collections.defaultdict(list)
    waiting = [(entry, 1, False)]
    while waiting:
        name, runs, inside = waiting.pop()
        places[name].append((runs, inside))
        for callee, rounds in _callees(bodies, name):
            waiting.append((callee, runs * rounds, inside or (num_layers - 1 <= rounds <= num_layers and rounds > 1)))
    return places


def _callees(bodies: dict[str, list[str]], name: str) -> Iterator[tuple[str, int]]:
    """The computations that `name` calls, and how often each call runs them (a loop's bound is in its condition)."""
    for line in bodies.get(name, ()):
        rounds = 1
        if " while(" in line:
            condition = bodies.get(_CONDITION.findall(line)[0], ())
            rounds = max((int(n) for each in condition for n in re.findall(r"[su]32\[\]\S* constant\((\d+)\)", each)),
                         default=1)
        for called in _CALLED.finditer(line):
            for callee in re.findall(r"[\w.\-]+", called.group(1)):
                yield callee, rounds if called.group(0).startswith("body=") else 1


def _size(shapes: str, *, started: bool) -> float:
    """Bytes of the arrays that `shapes` names; of an asynchronous start, those of its results alone."""
    sizes = [_BYTES[kind] * math.prod(int(n) for n in dims.split(",") if n) for kind, dims in _SHAPE.findall(shapes)
             if kind in _BYTES]
    return sum(sizes) if not started else max(sizes, default=0)
