"""Boxes from a file instead of a model: COCO, CSV, or labels of another tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.boxes import clip, has_area
from pipelines.detectors.box_columns import BoxTable
from pipelines.detectors.box_rows import RowsByImage
from pipelines.detectors.box_table import read_box_table
from pipelines.names import stem
from pipelines.types import Bool, Category, Detections, Float32, Image

_MARGIN = 0.05


class BoxFileDetector:
    """The boxes a file has for each image of a run.

    counts: what became of the boxes of all images so far; those of which nothing lies inside their image are dropped.
    of_file: how many boxes of the file are used nowhere in the run, by why. notes: sentences for the user, see
    `pipelines.notes`. image_ids: name -> id, the file's own where it has one.
    """

    batch = 1

    def __init__(
        self,
        path: Path,
        box_format: str | None,
        image_ids: Mapping[str, int],
        *,
        min_score: float | None = None,
        categories: Sequence[Category] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Read and check the file: `box_table.read_box_table` says what it may hold, and what box_format, categories
        and class_names are.

        image_ids: every image of the run, name -> id: how one is found in the file, `box_rows.RowsByImage` says.
        min_score: leave lower scores out; None: all boxes are used. Raises DataError also when the file speaks of
        images and of none of the run's.
        """
        table = read_box_table(path, box_format, categories, class_names=class_names)
        numbered = all(stem(name).lstrip("0") == str(id).lstrip("0") for name, id in image_ids.items())
        self._images = RowsByImage(path, table, image_ids, numbered=numbered, whose="the run's", min_score=min_score)
        self.image_ids, of_ids = self._images.known_by(image_ids)
        self.notes = [*self._images.notes, *of_ids, *table.notes, *_shares(path, table)]
        self._min_score = min_score
        self.categories = table.categories
        self.counts = {"kept": 0, "dropped_outside_the_image": 0}
        unused = {"below_min_score": self._images.below_min_score, **self._images.lost}
        self.of_file = {why: count for why, count in unused.items() if count}

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """The boxes of each image, clipped to it, best score first; none where the file has none.

        Raises ImageError for an image whose size is not the one the file states.
        """
        return [self._detections(image) for image in images]

    def _detections(self, image: Image) -> Detections:
        table = self._images.table
        rows, given, notes = self._images.boxes(image)
        boxes = clip(given, width=image.width, height=image.height)
        inside = has_area(boxes)
        self.counts["kept"] += int(inside.sum())
        self.counts["dropped_outside_the_image"] += int((~inside).sum())
        if not inside.all():
            notes += ("boxes without area inside the image were dropped",)
        if 2 * int(_reaching_out(given, image).sum()) > len(given):
            notes += ("most boxes reach far out of the image and were cut: is --box-format right?",)
        if not inside.any():
            return replace(Detections.empty(self._reason(len(rows))), notes=notes)
        rows = rows[inside]
        return Detections(boxes[inside], table.scores[rows], table.category_ids[rows], notes)

    def _reason(self, boxes: int) -> str:
        """Why none of an image's boxes is left. boxes: how many the lowest score that is wanted has left."""
        name = self._images.path.name
        if boxes:
            return f"no box of {name} for it covers anything of the image"
        least = "" if self._min_score is None else f" that scores {self._min_score:g} or more: --min-score"
        return f"{name} has no box for it{least}"


def _shares(path: Path, table: BoxTable) -> list[str]:
    """A note on boxes that are read as pixels, all of which would lie in the first one."""
    if table.box_format.endswith("-normalised") or not 0 < table.boxes.max(initial=0) <= 1:
        return []
    return [
        f"no number of {path.name} is above 1: of shares of the image, say --box-format {table.box_format}-normalised"
    ]


def _reaching_out(boxes: Float32, image: Image) -> Bool:
    """Which of N x 4 xyxy boxes reach out of the image by more than a twentieth of its side: N bool."""
    size = np.array([image.width, image.height], np.float32)
    margin = np.maximum(2, _MARGIN * size)
    out: Bool = ((boxes[:, :2] < -margin) | (boxes[:, 2:] > size + margin)).any(axis=1)
    return out
