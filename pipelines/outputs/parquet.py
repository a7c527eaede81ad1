"""Objects as rows of a Parquet file, for pandas, DuckDB, Spark and Hugging Face's datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import pyarrow as arrow
from pyarrow import parquet

from pipelines.files import replacing
from pipelines.outputs import Output
from pipelines.outputs.table import COLUMNS, rows
from pipelines.records import Record

_ROWS = 10_000
"""Of a row group: what is held in memory."""
_TYPES = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
SCHEMA = arrow.schema([(name, _TYPES[kind]) for name, kind in COLUMNS.items()])


@dataclass(frozen=True)
class Parquet(Output):
    """`instances.parquet`: the columns of `pipelines.outputs.table`."""

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        path = self.destination.path("instances.parquet")
        with (
            replacing(path, self.destination.scratch) as temporary,
            parquet.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer,
        ):
            found = rows(records(), self.destination.categories)
            while group := list(islice(found, _ROWS)):
                writer.write_table(arrow.Table.from_pylist(group, SCHEMA))
