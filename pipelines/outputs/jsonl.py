"""One JSON record per image, failed ones with their reason: `records.jsonl`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipelines.files import replacing
from pipelines.outputs import Output
from pipelines.records import Record


@dataclass(frozen=True)
class Records(Output):
    """`Record.to_line`, one a line in source order, UTF-8; read it back with `Record.from_line`."""

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        path = self.destination.path("records.jsonl")
        with (
            replacing(path, self.destination.scratch) as temporary,
            temporary.open("w", encoding="utf-8", newline="\n") as file,
        ):
            file.writelines(f"{record.to_line()}\n" for record in records())
