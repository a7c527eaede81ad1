"""What is scored: predicted instances in columns, from a results file of anyone's or from the records of a run."""

from __future__ import annotations

import gc
import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import hotcoco
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.evaluation.annotations import GroundTruth, to_rle
from pipelines.records import Record
from pipelines.types import Int64, Rle

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """N instances in the order given.

    image_ids, category_ids: N int64; boxes: N x 4 float64 xywh pixels; scores: N float64; rles: N masks, or none at
    all for a file of boxes; areas: N float64, pixels of the masks, or of the boxes where there are no masks.
    """

    image_ids: Int64
    category_ids: Int64
    boxes: Float64
    scores: Float64
    rles: tuple[Rle, ...]
    areas: Float64

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


def read_results(path: Path, truth: GroundTruth, *, agnostic: bool = False, limited: bool = False) -> Predictions:
    """Read a COCO results list, with masks (any kind of segmentation) or boxes only.

    agnostic: its categories mean nothing; all become the truth's first. limited: the truth was cut to its first images;
    results for others are passed over. A missing bbox becomes the mask's. Raises DataError that names the file and the
    entry.
    """
    try:
        with path.open(encoding="utf-8-sig") as file, _no_collection():
            entries = json.load(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a results file: its JSON cannot be read ({error})") from error
    if not isinstance(entries, list):
        raise DataError(f"{path} is not a results file: COCO results are a JSON list")
    columns, category_ids = _Columns(), {category.id for category in truth.categories}
    only = truth.categories[0].id if agnostic else None
    with _no_collection():
        for index, entry in enumerate(entries):
            try:
                if not limited or entry["image_id"] in truth.images:
                    _add(columns, entry, truth, category_ids, only)
            except KeyError as error:
                raise DataError(f"{path}: entry {index} has no {error}") from error
            except (TypeError, ValueError, OverflowError, AttributeError) as error:
                raise DataError(f"{path}: entry {index}: {error}") from error
    return columns.predictions()


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


def _add(
    columns: _Columns, entry: dict[str, Any], truth: GroundTruth, category_ids: set[int], only: int | None
) -> None:
    image = truth.images.get(entry["image_id"])
    if image is None:
        raise ValueError(f"image {entry['image_id']!r} is not in {truth.path.name}")
    category_id = entry["category_id"] if only is None else only
    if category_id not in category_ids:
        raise ValueError(f"category {category_id!r} is not in {truth.path.name}")
    score, bbox = float(entry["score"]), entry.get("bbox")
    if bool(entry.get("segmentation")) != bool(columns.rles) and columns.scores:
        raise ValueError("either all entries have a segmentation, or none")
    if entry.get("segmentation"):
        mask = to_rle(entry["segmentation"], image.height, image.width)
        columns.rles.append(mask)
        bbox = bbox or hotcoco.mask.to_bbox(dict(mask)).tolist()
    elif not bbox:
        raise ValueError("it has neither a 'segmentation' nor a 'bbox'")
    x, y, w, h = map(float, bbox)
    if not math.isfinite(x + y + w + h + score):
        raise ValueError("it holds a value that is not a finite number")
    columns.ids.append(image.id)
    columns.categories.append(category_id)
    columns.boxes.extend((x, y, w, h))
    columns.scores.append(score)
