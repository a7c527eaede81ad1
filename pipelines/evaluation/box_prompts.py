"""The boxes of a file as they stand there, as published box files are evaluated: none clipped, none left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.categories import COCO
from pipelines.detectors.box_columns import BoxTable
from pipelines.detectors.box_rows import RowsByImage
from pipelines.detectors.box_table import read_box_table
from pipelines.errors import DataError
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.config import RawBoxFilePrompts
from pipelines.labels.files import digest_of
from pipelines.names import folded
from pipelines.types import Detections, Image, Int64


class RawBoxFileDetector:
    """Images -> their boxes, best score first. settings: what the stamp says of the file; notes: see
    `pipelines.notes`."""

    def __init__(self, config: RawBoxFilePrompts, truth: GroundTruth, *, agnostic: bool) -> None:
        """Images and categories are those of the truth that have the names the file gives; where it gives none, as
        COCO results, those that have its ids. agnostic: categories mean nothing, all become the truth's first.

        Raises DataError when the file cannot be read, has a category that the truth has not, or none of its images.
        """
        table = read_box_table(config.path)
        self.settings: Mapping[str, Any] = {
            "kind": "FileOfBoxes",
            "file": config.path.name,
            "sha256": digest_of(config.path),
        }
        self._table = table
        self._category_ids = _category_ids(config.path, table, truth, agnostic)
        self._images = RowsByImage(config.path, table, truth.image_ids(), numbered=True)
        self.notes: Sequence[str] = self._images.notes

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        return [self._detections(image) for image in images]

    def _detections(self, image: Image) -> Detections:
        rows, boxes, notes = self._images.boxes(image)
        return Detections(boxes, self._table.scores[rows], self._category_ids[rows], notes)


def _category_ids(path: Path, table: BoxTable, truth: GroundTruth, agnostic: bool) -> Int64:
    if agnostic:
        return np.full_like(table.category_ids, truth.categories[0].id)
    own = {category.id: category.id for category in truth.categories}
    if not _without_names(path, table):
        by_name = truth.ids_by_name()
        own = {c.id: by_name[folded(c.name)] for c in table.categories if folded(c.name) in by_name}
    names = {category.id: category.name for category in table.categories}
    for id in np.unique(table.category_ids).tolist():
        if id not in own:
            raise DataError(f"{path} has boxes of category {id} ({names[id]}), which is not in {truth.path.name}")
    return np.array([own[id] for id in table.category_ids.tolist()], np.int64)


def _without_names(path: Path, table: BoxTable) -> bool:
    """Whether a file is COCO results whose categories are ids alone; its reader has named them by itself."""
    if path.is_dir():
        return False
    with path.open(encoding="utf-8-sig") as file:
        is_list = file.read(4096).lstrip().startswith("[")
    return is_list and (table.categories == COCO or all(c.name == f"category {c.id}" for c in table.categories))
