"""The `libra` command: `libra STAGE flags` runs one stage; `libra --help` lists them without importing any.

`libra --distributed STAGE flags`, started on every host of a pod, first joins the hosts into one JAX run.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import pathlib
import sys
from collections.abc import Sequence

FOLDER = pathlib.Path(__file__).parent


def stages(folder: pathlib.Path = FOLDER) -> dict[str, str]:
    """Every stage of `folder` with the first sentence of its docstring, read by ast: no stage is imported."""
    found = {}
    for file in sorted(folder.glob("[a-z]*.py")):
        if file.name == "cli.py":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def usage() -> str:
    """The text of `libra --help`."""
    lines = ["usage: libra [--distributed] STAGE --workdir=DIR [--config=FILE] [--config.FIELD=VALUE ...]", "",
             "--distributed: on every host of a pod, to join them into one JAX run", "", "stages:"]
    found = stages()
    width = max(map(len, found), default=0)
    lines += [f"  {name:<{width}}  {line}" for name, line in found.items()]
    return "\n".join([*lines, "", "libra STAGE --help lists the fields of a stage with their defaults."])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage that argv names with the flags behind it; returns its exit status, or 2 for no such stage."""
    argv = list(sys.argv if argv is None else argv)
    distributed = argv[1:2] == ["--distributed"]
    argv = argv[:1] + argv[1 + distributed:]
    if len(argv) < 2 or argv[1] in ("--help", "-h", "help"):
        print(usage(), file=sys.stdout if len(argv) > 1 else sys.stderr)
        return 0 if len(argv) > 1 else 2
    name, found = argv[1], stages()
    if name not in found:
        near = difflib.get_close_matches(name, found, 1, 0)
        print(f"error: there is no stage {name!r}; the nearest is {near[0]!r}; libra --help lists them all",
              file=sys.stderr)
        return 2
    if distributed:
        import jax

        jax.distributed.initialize()  # finds the other hosts by itself on TPU pods, SLURM and MPI
    module = importlib.import_module(f"libra_jax.stages.{name}")
    return module.main([f"libra {name}", *argv[2:]])


if __name__ == "__main__":
    raise SystemExit(main())
