"""Parquet: the columns of `table`, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyarrow.parquet import ParquetFile

from pipelines.files import reading
from pipelines.labels import Asked, Labels
from pipelines.labels.table import USED, Row, read_table

_WHAT = "a Parquet file"
_ROWS = 1000


def read(path: Path, asked: Asked) -> Labels:
    """path: a file. See `pipelines.labels`."""
    with reading(path, _WHAT), ParquetFile(path) as file:
        columns = list(file.schema_arrow.names)
    return read_table(path, columns, lambda: _rows(path, [name for name in columns if name in USED]), asked)


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[str, Row]]:
    with reading(path, _WHAT), ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches(_ROWS, columns=columns):
            for row in batch.to_pylist():
                yield f"row {number}", row
                number += 1
