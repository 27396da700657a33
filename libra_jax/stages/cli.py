"""The `libra` command: `libra STAGE flags` runs one stage; `libra --help` lists them without importing any.

`libra --distributed STAGE flags`, started on every host, first joins the hosts into one JAX run. A TPU pod, SLURM, MPI
and Kubernetes say by themselves who the others are; elsewhere `--distributed=HOST:PORT,NUM,ID` does: where process 0
listens, how many processes there are, and which one this is, from 0.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import pathlib
import re
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
    lines = ["usage: libra [--distributed[=HOST:PORT,NUM,ID]] STAGE --workdir=DIR [--config=FILE] "
             "[--config.FIELD=VALUE ...]", "",
             "--distributed joins the processes that start the same command on every host into one JAX run.",
             "On a TPU pod, under SLURM, MPI or Kubernetes they find each other. Elsewhere give, on each host:",
             "  HOST:PORT  an address of process 0, with a free port, which the others reach",
             "  NUM        how many processes there are",
             "  ID         which of them this is: 0 to NUM - 1",
             "--workdir and all inputs must lie on storage that every host sees; process 0 writes.", "", "stages:"]
    found = stages()
    width = max(map(len, found), default=0)
    lines += [f"  {name:<{width}}  {line}" for name, line in found.items()]
    return "\n".join([*lines, "", "libra STAGE --help lists the fields of a stage with their defaults."])


def join(where: str) -> None:
    """Joins this process to the others of the run: `where` is HOST:PORT,NUM,ID, or "" for what the cluster says.

    ValueError for what is no such place, or where no cluster says so; RuntimeError when the others do not come.
    """
    found = re.fullmatch(r"([^,]+:\d+),(\d+),(\d+)", where)
    if where and not (found and int(found[3]) < int(found[2])):
        raise ValueError(f"--distributed={where}: expected HOST:PORT,NUM,ID with ID from 0 to NUM - 1, such as "
                         "10.0.0.1:1234,2,0 on the first of two hosts")
    import jax

    if found:
        jax.distributed.initialize(found[1], int(found[2]), int(found[3]), cluster_detection_method="deactivate")
        return
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise ValueError(f"--distributed: this is no TPU pod, SLURM, MPI or Kubernetes job that JAX knows ({error}); "
                         "give --distributed=HOST:PORT,NUM,ID") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage that argv names with the flags behind it; returns its exit status, or 2 for no such stage."""
    argv = list(sys.argv if argv is None else argv)
    flag = next((word for word in argv[1:2] if word.partition("=")[0] == "--distributed"), "")
    argv = argv[:1] + argv[1 + bool(flag):]
    if len(argv) < 2 or argv[1] in ("--help", "-h", "help"):
        print(usage(), file=sys.stdout if len(argv) > 1 else sys.stderr)
        return 0 if len(argv) > 1 else 2
    name, found = argv[1], stages()
    if name not in found:
        near = difflib.get_close_matches(name, found, 1, 0)
        print(f"error: there is no stage {name!r}; the nearest is {near[0]!r}; libra --help lists them all",
              file=sys.stderr)
        return 2
    if flag:
        try:
            join(flag.partition("=")[2])
        except (ValueError, RuntimeError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    module = importlib.import_module(f"libra_jax.stages.{name}")
    return module.main([f"libra {name}", *argv[2:]])


if __name__ == "__main__":
    raise SystemExit(main())
