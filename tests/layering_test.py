"""The house's floors: a module imports floors below its own, never a sibling room; TensorFlow and Beam in data/ alone.

Its own walk over the syntax trees, so that imports inside functions and under TYPE_CHECKING count too.
"""

import ast
import pathlib

import pytest

PACKAGE = "libra_jax"
ROOT = pathlib.Path(__file__).parents[1] / PACKAGE
FLOORS = {
    "stages": 7,
    "learning": 6, "serving": 6,
    "train": 5, "bench": 5, "judges": 5,
    "sampling": 4, "objectives": 4, "data": 4,
    "model": 3,
    "judging": 2, "verify": 2, "text": 2, "parallel": 2, "miniature": 2, "runs": 2,
    "records": 1, "config": 1,
}  # fmt: skip
FEEDS = {"tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio", "t5", "clu", "apache_beam"}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "tunix", "chex"}
WITHOUT_JAX = {"judging", "verify", "text", "miniature", "records", "config"}


def imports(tree: ast.Module, module: str, is_package: bool):
    """(line, dotted name, whether it runs when the module is imported) of every import in a module."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = {id(child) for node in ast.walk(tree) if isinstance(node, functions) for child in ast.walk(node)}
    for node in ast.walk(tree):
        at_once = id(node) not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, at_once
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if is_package else module.split(".")[:-1]
            base = parts[:len(parts) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{name}.{alias.name}", at_once
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value, at_once


def violations(root: pathlib.Path) -> list[str]:
    """Every import under `root` (a folder named like the package) that the house forbids, as "file:line: why"."""
    found = []
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root)
        room = path.parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        if room not in FLOORS:
            found.append(f"{path}:1: room {room!r} has no floor; name it in tests/layering_test.py")
            continue
        is_package = file.name == "__init__.py"
        module = ".".join([PACKAGE, *path.with_suffix("").parts[: -1 if is_package else None]])
        for line, name, at_once in imports(ast.parse(file.read_text(encoding="utf-8")), module, is_package):
            top, _, rest = name.partition(".")
            where = f"{path}:{line}: {name}"
            if top in FEEDS and room != "data":
                found.append(f"{where}: only data/ imports TensorFlow, what feeds it, and Beam")
            elif top in FEEDS and at_once:
                found.append(f"{where}: import it inside the function that uses it; it costs seconds")
            elif top in JAX and room in WITHOUT_JAX:
                found.append(f"{where}: {room} works without JAX")
            elif top == PACKAGE and rest:
                other = rest.partition(".")[0]
                if other not in FLOORS:
                    found.append(f"{where}: room {other!r} has no floor")
                elif other != room and FLOORS[other] > FLOORS[room]:
                    found.append(f"{where}: upward, from floor {FLOORS[room]} to {FLOORS[other]}")
                elif other != room and FLOORS[other] == FLOORS[room]:
                    found.append(f"{where}: sideways, to a sibling room")
            elif top == "tests":
                found.append(f"{where}: the package does not know its tests")
    return found


def test_the_house_keeps_its_floors():
    assert violations(ROOT) == []


def test_every_room_is_there():
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__"} == set(FLOORS)


@pytest.mark.parametrize("file, line, why", [
    ("judging/x.py", "from libra_jax.stages import bench", "upward"),
    ("judging/x.py", "from libra_jax import train", "upward"),
    ("model/x.py", "def f():\n    import libra_jax.sampling.engine", "upward"),
    ("model/x.py", "from ..bench import score", "upward"),
    ("model/__init__.py", "from ..bench import score", "upward"),
    ("records.py", "import importlib\nimportlib.import_module('libra_jax.data.tasks')", "upward"),
    ("bench/x.py", "from libra_jax.judges import model", "sideways"),
    ("bench/x.py", "from .. import train", "sideways"),
    ("bench/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from libra_jax import judges", "sideways"),
    ("train/x.py", "def f():\n    import tensorflow as tf", "only data/"),
    ("stages/x.py", "from seqio import Task", "only data/"),
    ("data/x.py", "import seqio", "inside the function"),
    ("judging/x.py", "def f():\n    import apache_beam as beam", "only data/"),
    ("data/x.py", "from apache_beam import pvalue", "inside the function"),
    ("data/x.py", "class A:\n    import seqio", "inside the function"),
    ("verify/x.py", "import jax.numpy as jnp", "without JAX"),
    ("text/x.py", "def f():\n    from flax import nnx", "without JAX"),
    ("helpers/x.py", "", "no floor"),
    ("bench/x.py", "from libra_jax import helpers", "no floor"),
])
def test_a_planted_violation_is_caught(tmp_path, file, line, why):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(line + "\n")
    (found,) = violations(tmp_path)
    assert why in found and found.startswith(f"{file}:")


@pytest.mark.parametrize("file, line", [
    ("stages/x.py", "from libra_jax.stages import bench\nfrom libra_jax.records import Problem\nimport jax"),
    ("data/x.py", "def f():\n    import seqio\n    import tensorflow as tf"),
    ("bench/x.py", "from . import score\nfrom .score import evaluate\nfrom .. import records"),
    ("judging/x.py", "import re\nfrom libra_jax import config"),
])
def test_what_is_allowed_passes(tmp_path, file, line):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(line + "\n")
    assert violations(tmp_path) == []
