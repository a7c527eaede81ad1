"""Boxes in columns, as they are read, and the table that they become."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines import coco, frames
from pipelines.boxes import to_xyxy
from pipelines.categories import COCO
from pipelines.errors import DataError
from pipelines.types import Category, Float32, Frame, Int64


@dataclass(frozen=True)
class ListedImage:
    """An image as a box file speaks of it: by its name, its id or both; its (width, height), and the frame that its
    boxes are counted in, where they are stated."""

    name: str | None = None
    id: int | None = None
    size: tuple[int, int] | None = None
    frame: Frame | None = None


@dataclass(frozen=True)
class BoxTable:
    """N boxes in the file's order.

    images: those the file speaks of; image_indices: N int64, each box's place in `images`; boxes: N x 4 float32 as
    they stand in the file, in `box_format`; scores: N float32; category_ids: N int64, all in `categories`.
    of_files: the images' names are those of label files beside them. notes: see `pipelines.notes`.
    """

    images: tuple[ListedImage, ...]
    image_indices: Int64
    boxes: Float32
    scores: Float32
    category_ids: Int64
    box_format: str
    categories: tuple[Category, ...]
    of_files: bool = False
    notes: tuple[str, ...] = ()


LEAST = 1 - 2**63
"""Ids may be negative, as -1 for no class."""


class Columns:
    """Boxes as they are read. images: the ids or names of images, numbered as they come up; names: by id, where an
    image has both; frames: by id or name, where they are told; labels: the names of categories, by id, where they are
    told.
    """

    def __init__(self) -> None:
        self.boxes, self.scores = array("f"), array("f")
        self.image_numbers, self.category_ids = array("q"), array("q")
        self.images: dict[int | str, int] = {}
        self.names: dict[int | str, str] = {}
        self.frames: dict[int | str, Frame] = {}
        self.labels: dict[int, str] = {}

    def add(self, image: int | str, box: Sequence[float], score: float, category_id: int) -> None:
        """All as they should be."""
        self.boxes.extend(box)
        self.scores.append(score)
        self.image_numbers.append(self.images.setdefault(image, len(self.images)))
        self.category_ids.append(category_id)

    def take(self, entry: dict[str, Any], score: Any, *, named: bool) -> None:
        """An entry of a results list or an annotation; its score. named: its file_name is the image's, with its id or
        without; where one id comes with several names, each is an image. Raises DataError."""
        name = coco.text(entry, "file_name") if named and coco.has(entry, "file_name") else None
        image: Any = name if name and entry.get("image_id") is None else entry.get("image_id")
        category_id: Any = entry.get("category_id")
        box: Any = entry["bbox"]
        if not _is_plain(image, category_id, box, score):
            image = image if isinstance(image, str) else read_id(entry, "image_id")
            if image == "":
                raise DataError("'image_id' is \"\", neither an image's id nor its name")
            box = coco.four_numbers(entry)
            score = coco.number({"score": score}, "score")
            category_id = read_id(entry, "category_id")
        if name and self.names.setdefault(image, name) != name:
            image = name
        self.add(image, box, score, category_id)
        if entry.get("category_name") is not None:
            self.labels[category_id] = coco.text(entry, "category_name")
        if "frame" in entry and (frame := frames.stated(entry)):
            self.frames[image] = frame

    def table(
        self,
        images: Sequence[ListedImage],
        box_format: str,
        categories: Sequence[Category] | None,
        *,
        name_entry: Callable[[int], str],
        image_indices: Sequence[int] | None = None,
        category_ids: Sequence[int] | None = None,
    ) -> BoxTable:
        """Check all boxes. image_indices, category_ids: what the numbers read mean, None if just themselves."""

        def meaning(numbers: array[int], values: Sequence[int] | None) -> Int64:
            return np.asarray(numbers) if values is None else np.asarray(values, np.int64)[np.asarray(numbers)]

        boxes, ids = np.asarray(self.boxes).reshape(-1, 4), meaning(self.category_ids, category_ids)
        to_xyxy(boxes, box_format, width=1, height=1, allow_empty=True, name_box=name_entry)
        return BoxTable(
            images=tuple(images),
            image_indices=meaning(self.image_numbers, image_indices),
            boxes=boxes,
            scores=np.asarray(self.scores),
            category_ids=ids,
            box_format=box_format,
            categories=_name_ids(ids, categories, name_entry),
        )


def _is_plain(image: Any, category_id: Any, box: Any, score: Any) -> bool:
    """Whether all is of the type that it should be, and none too large: what most files hold."""
    return (
        (abs(image) < 2**63 if type(image) is int else type(image) is str and image != "")
        and type(category_id) is int
        and abs(category_id) < 2**63
        and type(box) is list
        and len(box) == 4
        and coco.are_numbers((*box, score))
    )


def read_id(entry: dict[str, Any], field: str) -> int:
    return coco.whole_number(entry, field, least=LEAST)


def _name_ids(ids: Int64, known: Sequence[Category] | None, name_entry: Callable[[int], str]) -> tuple[Category, ...]:
    used = np.unique(ids)
    if known is None:
        of_coco = np.isin(used, [category.id for category in COCO]).all()
        return COCO if of_coco else tuple(Category(int(id), f"category {id}") for id in used)
    known_ids = [category.id for category in known]
    coco.check_distinct("categories", "id", known_ids)
    for id in used[~np.isin(used, known_ids)]:
        raise DataError(f"{name_entry(int(np.argmax(ids == id)))} is of category {id}, which is not listed")
    return tuple(known)
