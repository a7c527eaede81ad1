"""What is scored: predicted instances in columns, from a results file of anyone's or from the records of a run."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import hotcoco
import numpy as np
from numpy.typing import NDArray

from pipelines import coco
from pipelines.errors import DataError
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.result_images import ResultImages, known_id
from pipelines.files import read_json
from pipelines.records import Record
from pipelines.segmentations import flat_polygons, mask_and_box, note_of_flat
from pipelines.types import Int64, Rle

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """N instances in the order given.

    image_ids, category_ids: N int64; boxes: N x 4 float64 xywh pixels; scores: N float64; rles: N masks, or none at
    all for a file of boxes; areas: N float64, pixels of the masks, or of the boxes where there are no masks. notes: see
    `pipelines.notes`.
    """

    image_ids: Int64
    category_ids: Int64
    boxes: Float64
    scores: Float64
    rles: tuple[Rle, ...]
    areas: Float64
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def has_masks(self) -> bool:
        return len(self.rles) == len(self)

    def areas_of(self, kind: str) -> Float64:
        """Pixels of the masks; with kind "bbox", of the boxes."""
        return self.boxes[:, 2] * self.boxes[:, 3] if kind == "bbox" else self.areas

    def take(self, rows: Int64) -> Predictions:
        """Some of the instances."""
        rles = tuple(self.rles[row] for row in rows.tolist()) if self.rles else ()
        return Predictions(
            self.image_ids[rows],
            self.category_ids[rows],
            self.boxes[rows],
            self.scores[rows],
            rles,
            self.areas[rows],
        )

    def by_image(self) -> Mapping[int, Int64]:
        """Rows of each image that has any, best score first, equal scores in the order given."""
        order = np.lexsort((-self.scores, self.image_ids))
        ids, starts = np.unique(self.image_ids[order], return_index=True)
        return dict(zip(ids.tolist(), np.split(order, starts)[1:], strict=True))


def as_dicts(rles: Sequence[Rle]) -> list[dict[str, Any]]:
    """The masks as hotcoco's types have them: a typed dict is a dict."""
    return cast(list[dict[str, Any]], list(rles))


class _Columns:
    def __init__(self) -> None:
        self.ids, self.categories = array("q"), array("q")
        self.boxes, self.scores = array("d"), array("d")
        self.rles: list[Rle] = []

    def predictions(self) -> Predictions:
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        areas = hotcoco.mask.area(as_dicts(self.rles)) if self.rles else boxes[:, 2] * boxes[:, 3]
        return Predictions(
            image_ids=np.asarray(self.ids, np.int64),
            category_ids=np.asarray(self.categories, np.int64),
            boxes=boxes,
            scores=np.asarray(self.scores, np.float64),
            rles=tuple(self.rles),
            areas=np.asarray(areas, np.float64),
        )


def from_records(records: Iterable[Record]) -> Predictions:
    """The instances of a run's records, by image id."""
    columns = _Columns()
    for record in records:
        for row in record.instances:
            columns.ids.append(record.image_id)
            columns.categories.append(row["category_id"])
            columns.boxes.extend(row["bbox"])
            columns.scores.append(row["score"])
            columns.rles.append(row["segmentation"])
    return columns.predictions()


def read_results(path: Path, truth: GroundTruth, *, agnostic: bool = False) -> Predictions:
    """Read a COCO results list, with masks (any kind of segmentation) or boxes only.

    agnostic: its categories mean nothing; all become the truth's first. `ResultImages` says which image an entry is
    of; those that the truth leaves out are passed over. A missing bbox becomes the mask's. Raises DataError that names
    the file and the entry.
    """
    with _no_collection():
        entries = read_json(path, "a results file")
        if not isinstance(entries, list):
            raise DataError(f"{path} is not a results file: COCO results are a JSON list")
        images = ResultImages(path, entries, truth)
        reader = _Results(truth, images, entries, truth.categories[0].id if agnostic else None)
        with coco.named(str(path)):
            coco.each("entry", entries, reader.add)
    notes = note_of_flat(reader.flat, "entry", path.name)
    return replace(reader.columns.predictions(), notes=(*images.notes(), *notes))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's search for cyclic garbage takes half the time of reading a long list, and finds nothing in it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Results:
    """Adds entries of a results list to columns. images: what they are of; entries: all there are, for messages; only:
    the category that all are of, None for their own.

    flat: entry -> how many of its polygons cover nothing.
    """

    def __init__(self, truth: GroundTruth, images: ResultImages, entries: Sequence[Any], only: int | None) -> None:
        self.columns, self.flat = _Columns(), dict[int, int]()
        self._truth, self._images, self._entries, self._only = truth, images, entries, only
        self._category_ids = {category.id for category in truth.categories}

    def add(self, number: int, entry: dict[str, Any]) -> None:
        columns, truth = self.columns, self._truth
        image_id = self._images(entry)
        if image_id in truth.left_out:
            return
        image = truth.images[image_id]
        category_id = self._only
        if category_id is None:
            category_id = known_id(entry, "category_id", self._category_ids, truth, self._entries)
        score = coco.number(entry, "score")
        mask, box = mask_and_box(entry, image.height, image.width)
        if (mask is not None) != bool(columns.rles) and columns.scores:
            raise DataError("either all entries have a 'segmentation', or none")
        if mask is not None:
            columns.rles.append(mask)
            if flat := flat_polygons(entry["segmentation"]):
                self.flat[number] = flat
        columns.boxes.extend(box)
        columns.ids.append(image_id)
        columns.categories.append(category_id)
        columns.scores.append(score)
