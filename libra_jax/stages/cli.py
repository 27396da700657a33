"""The `libra` command: `libra STAGE flags` runs one stage; `libra --help` lists them without importing any.

`libra --distributed STAGE flags`, started on every host, first joins the hosts into one JAX run. A TPU pod, SLURM, MPI
and Kubernetes say by themselves who the others are; elsewhere `--distributed=HOST:PORT,NUM,ID` does: where process 0
listens, how many processes there are, and which one this is, from 0.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import os
import pathlib
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

from libra_jax.command import completion

FOLDER = pathlib.Path(__file__).parent
# What stages are for; one that is in no group is listed with the others.
GROUPS = {
    "see it work": ("demo", "paper"),
    "from problems to judging sets": ("dataset", "rollout", "verify", "curate"),
    "judge, and measure judges": ("judge", "bench", "compare", "audit"),
    "train a judge": ("reject", "sft", "rl", "rounds"),
    "use a judge": ("serve", "best_of", "downstream", "dpo", "improve"),
    "models and machines": ("plan", "convert", "miniature"),
}
_MORE = """\
libra STAGE --help          explains a stage, and each of its fields
libra STAGE ... --dry_run   looks at fields, inputs and devices, and writes nothing
libra --version             says which versions are here
libra --completion bash     prints what completes all of this in bash, or zsh: eval "$(libra --completion bash)"

--distributed joins the processes that start the same command on every host into one JAX run.
On a TPU pod, under SLURM, MPI or Kubernetes they find each other. Elsewhere give, on each host:
  HOST:PORT  an address of process 0, with a free port, which the others reach
  NUM        how many processes there are
  ID         which of them this is: 0 to NUM - 1
--workdir and all inputs must lie on storage that every host sees; process 0 writes."""


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


def usage(found: Mapping[str, str]) -> str:
    """The text of `libra --help` for the stages of `stages`."""
    lines = ["usage: libra [--distributed[=HOST:PORT,NUM,ID]] STAGE --workdir=DIR [--config=FILE] "
             "[--config.FIELD=VALUE ...]"]
    width = max(map(len, found), default=0)
    grouped = {name for names in GROUPS.values() for name in names}
    groups = GROUPS | {"others": [name for name in found if name not in grouped]}
    for heading, names in groups.items():
        there = [name for name in names if name in found]
        if there:
            lines += ["", f"{heading}:"]
            lines += [f"  {name:<{width}}  {found[name]}" for name in there]
    return "\n".join([*lines, "", _MORE])


def version() -> str:
    """The text of `libra --version`: of this package, and of what its results depend on."""
    names = ("libra_jax", "jax", "jaxlib")
    return ", ".join([*(f"{name} {_installed(name)}" for name in names), f"Python {platform.python_version()}"])


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def join(where: str, *, patience: int = 100) -> None:
    """Joins this process to the others of the run: `where` is HOST:PORT,NUM,ID, or "" for what the cluster says.

    A process that is not heard of for `patience` seconds is taken for dead, and all the others end with an error.
    ValueError for what is no such place, or where no cluster says so; RuntimeError when the others do not come.
    """
    found = re.fullmatch(r"([^,]+:\d+),(\d+),(\d+)", where)
    if where and not (found and int(found[3]) < int(found[2])):
        raise ValueError(f"--distributed={where}: expected HOST:PORT,NUM,ID with ID from 0 to NUM - 1, such as "
                         "10.0.0.1:1234,2,0 on the first of two hosts")
    import jax

    if found:
        jax.distributed.initialize(found[1], int(found[2]), int(found[3]), cluster_detection_method="deactivate",
                                   heartbeat_timeout_seconds=patience)
        return
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=patience)
    except ValueError as error:
        raise ValueError(f"--distributed: this is no TPU pod, SLURM, MPI or Kubernetes job that JAX knows ({error}); "
                         "give --distributed=HOST:PORT,NUM,ID") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage that argv names with the flags behind it; returns its exit status, or 2 for no such stage."""
    try:
        status = _main(list(sys.argv if argv is None else argv))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE


def _main(argv: list[str]) -> int:
    if argv[1:2] and argv[1].partition("=")[0] in ("--version", "--completion", "--complete"):
        return _about(argv[1:])
    flag = next((word for word in argv[1:2] if word.partition("=")[0] == "--distributed"), "")
    argv = argv[:1] + argv[1 + bool(flag):]
    if len(argv) < 2 or argv[1] in ("--help", "-h", "help"):
        print(usage(stages()), file=sys.stdout if len(argv) > 1 else sys.stderr)
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


def _about(words: Sequence[str]) -> int:
    """--version, --completion and --complete; the exit status."""
    name, equals, value = words[0].partition("=")
    if name == "--version":
        print(version())
    elif name == "--complete":
        print("\n".join(completion.answers(words[1:], list(stages()))))
    else:
        try:
            print(completion.script(value if equals else "".join(words[1:2])), end="")
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
