"""Data sets to train on: photos with masks on disk, which stay encoded until used. A row is one file of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.errors import DataError
from pipelines.registry import Registry, Row
from pipelines.training.regions import Photo


class DataSource(Protocol):
    """Photos by number. categories: class names by id, "object" where the data set names none; has_masks: whether there
    are any; notes: see `pipelines.notes`."""

    name: str
    categories: dict[int, str]
    notes: Sequence[str]

    @property
    def has_masks(self) -> bool: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Photo: ...


@dataclass(frozen=True)
class DataSetRow(Row):
    """A kind of data set. Its target gives a `DataSource` and is called as `(path, photos)`; photos: their folder, when
    they are not beside the annotations. It gives None where `path` is of another kind. summary: what the user names.
    """


DATA_SETS = Registry(
    "kind of data set",
    [
        DataSetRow(
            "coco",
            "pipelines.training.coco_source:open_coco",
            "a COCO or LVIS JSON file, or a folder with annotations.json",
        ),
        DataSetRow("pngs", "pipelines.training.png_source:open_pngs", "a folder with images/ and masks/"),
        DataSetRow(
            "labels",
            "pipelines.training.label_source:open_labels",
            "labels of YOLO, LabelMe, Pascal VOC, CVAT or Label Studio, or a records.jsonl, with photos beside them",
        ),
        DataSetRow("sa1b", "pipelines.training.sa1b_source:open_sa1b", "an SA-1B folder (JSON beside each photo)"),
    ],
)
"""The first that knows a path has it."""


def open_source(path: Path, photos: Path | None = None) -> DataSource:
    """The data set at `path`, of the kind that is there. photos: their folder, when they are not beside the
    annotations. Raises DataError for anything else, and for a data set without photos or masks."""
    source = find_source(path, photos)
    if source is None:
        kinds = "; ".join(row.summary for row in DATA_SETS.values())
        raise DataError(f"{path} is no data set: give one of: {kinds}")
    if not len(source):
        raise DataError(f"{path} holds no annotated photo")
    if not source.has_masks:
        raise DataError(f"{path} holds no mask: none of its annotations has a 'segmentation'")
    return source


def find_source(path: Path, photos: Path | None = None) -> DataSource | None:
    """As `open_source`, but None where nothing tells of a data set, and without a look at photos and masks."""
    for row in DATA_SETS.values():
        source: DataSource | None = row.load()(path, photos)
        if source is not None:
            return source
    return None
