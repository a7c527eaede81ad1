"""Records on their way from what is read to what is written: a temporary file, a line an image."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType

from pipelines.files import writing
from pipelines.records import Record


class Spool:
    """A context manager. names, ids: of all records, in order; objects, masks: how many they hold together."""

    def __init__(self, beside: Path) -> None:
        """beside: a folder to be, on whose disk the file is. Raises SetupError."""
        place = next(each for each in (beside, *beside.parents) if each.is_dir())
        with writing(place):
            self._file = TemporaryFile(dir=place)
        self._place = place
        self.names: list[str] = []
        self.ids = array("q")
        self.objects = self.masks = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Raises SetupError."""
        self.names.append(record.name)
        self.ids.append(record.image_id)
        self.objects += len(record.instances)
        self.masks += sum("segmentation" in instance for instance in record.instances)
        with writing(self._place):
            self._file.write(record.to_line().encode("utf-8") + b"\n")

    def records(self) -> Iterator[Record]:
        self._file.seek(0)
        for line in self._file:
            yield Record.from_line(line.decode("utf-8"))
