"""Executes the notebooks and keeps their outputs, so that who reads them sees what they show.

    python notebooks/execute.py                          # all of them, in place
    python notebooks/execute.py notebooks/judge_a_response.ipynb

Each runs in an empty folder. What is kept: what cells print, and their figures; not what goes to stderr (progress with
times), since it differs with every run. The notebook's metadata has the digest of the cells that made the outputs.
Needs `pip install "libra_jax[dev]"`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import tempfile
from typing import Any

import nbformat

from libra_jax import records

FOLDER = pathlib.Path(__file__).resolve().parent
SCALE = "LIBRA_NOTEBOOK_SCALE"  # the variable that the notebooks read their size from
STEM = "libra_jax"  # of the notebook's metadata


def execute(path: pathlib.Path, *, scale: float | None = None, timeout: float = 3600) -> Any:
    """The notebook with the outputs of a run in an empty folder; `scale` is of its sizes, by default its own.

    CellExecutionError with the traceback where a cell fails.
    """
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    # The checkout that this file lies in, whatever else is installed.
    changes = {"PYTHONPATH": os.pathsep.join([str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}
    changes |= {} if scale is None else {SCALE: str(scale)}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(book, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": folder}},
                                record_timing=False, coalesce_streams=True,
                                extra_arguments=["--log-level=ERROR"])
        client.execute(env=os.environ | changes)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    book.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}, STEM: {"cells": digest(book)}})
    return book


def digest(book: Any) -> str:
    """A hash of the code of the cells, in their order; blank lines and lines of comments do not count."""
    code = [[line for line in cell.source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            for cell in book.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode("utf-8")).hexdigest()


def main() -> None:
    """Executes the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=pathlib.Path, default=sorted(FOLDER.glob("*.ipynb")))
    for path in parser.parse_args().notebooks:
        text = nbformat.writes(execute(path)) + "\n"
        records.write_text(path, text)
        print(f"{path.name}: {len(text) / 1000:,.0f} KB")


if __name__ == "__main__":
    main()
