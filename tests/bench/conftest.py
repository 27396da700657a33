"""Files of rows as publishers write them."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest


@pytest.fixture
def write_rows():
    """write_rows(path, rows): the rows as a file of the kind that its name says; returns the path."""

    def write(path, rows):
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=50)
            return path
        lines = "\n".join(map(json.dumps, rows))
        text = lines if ".jsonl" in path.name else json.dumps(rows, indent=1)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return path

    return write
