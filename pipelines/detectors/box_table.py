"""Files of boxes, read whole and checked: COCO results, COCO ground truth, CSV.

The published results lists hold millions of boxes, so each is taken out of the JSON as it is parsed, into flat
arrays of 40 bytes a box.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pipelines import frames
from pipelines.boxes import BOX_FORMATS, to_xyxy
from pipelines.categories import COCO, OBJECT
from pipelines.errors import DataError, UnknownNameError
from pipelines.types import Category, Float32, Frame, Int64


@dataclass(frozen=True)
class FileImage:
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
    they stand in the file, in `box_format`; scores: N float32; category_ids: N int64, all in `categories`; skipped:
    how many annotations were left out because their area is below 1.
    """

    images: tuple[FileImage, ...]
    image_indices: Int64
    boxes: Float32
    scores: Float32
    category_ids: Int64
    box_format: str
    categories: tuple[Category, ...]
    skipped: int


def read_box_table(path: Path, box_format: str | None = None, categories: Sequence[Category] | None = None) -> BoxTable:
    """Read a file of boxes; its content tells its kind.

    A JSON list is COCO results, whose entries may have file_name and category_name; a JSON object is COCO ground truth
    (crowds stay, annotations with an area below 1 are left out); anything else is CSV. box_format: one of
    `BOX_FORMATS`; None: COCO's xywh, or what the CSV's header says. categories: what ids and labels mean; None: what
    the file says, else COCO's 80 where every id or label is one of theirs, else "category 7". Raises DataError naming
    the file and the entry, UnknownNameError for the format.
    """
    if box_format is not None and box_format not in BOX_FORMATS:
        raise UnknownNameError("box format", box_format, list(BOX_FORMATS))
    start = ""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.read(4096).lstrip()[:1]
            file.seek(0)
            return _READERS.get(start, _read_csv)(file, box_format, categories)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, OverflowError, RecursionError, csv.Error) as error:  # ValueError: from JSON and from UTF-8
        kind = "JSON" if start in _READERS else "CSV"
        raise DataError(f"{path} is not a file of boxes: its {kind} cannot be read ({error})") from error


class _Columns:
    """Boxes as they are read. images: the ids or names of images, numbered as they come up; names: by id, where an
    image has both; frames: by id or name, where they are told; labels: the names of categories, by id, where they are
    told.
    """

    def __init__(self) -> None:
        self.boxes, self.scores, self.areas = array("f"), array("f"), array("f")
        self.image_numbers, self.category_ids = array("q"), array("q")
        self.images: dict[int | str, int] = {}
        self.names: dict[int | str, str] = {}
        self.frames: dict[int | str, Frame] = {}
        self.labels: dict[int, str] = {}

    def add(self, image: int | str, box: Sequence[float], score: float, category_id: int, area: float = 1) -> None:
        """Raises TypeError, ValueError or OverflowError when a value is not what it should be."""
        if type(image) not in (int, str) or image == "":
            raise TypeError(f"{image!r} is neither an image's id nor its name")
        x, y, w, h = box
        self.boxes.extend((x, y, w, h))
        self.scores.append(score)
        self.areas.append(area)
        self.image_numbers.append(self.images.setdefault(image, len(self.images)))
        self.category_ids.append(category_id)

    def table(
        self,
        images: Sequence[FileImage],
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

        kept = np.flatnonzero(np.asarray(self.areas) >= 1)
        boxes, scores = np.asarray(self.boxes).reshape(-1, 4)[kept], np.asarray(self.scores)[kept]
        ids = meaning(self.category_ids, category_ids)[kept]

        def name_kept(index: int) -> str:
            return name_entry(int(kept[index]))

        to_xyxy(boxes, box_format, width=1, height=1, allow_empty=True, name_box=name_kept)
        for index in np.flatnonzero(~np.isfinite(scores))[:1]:
            raise DataError(f"{name_kept(index)} has a score that is not a finite number")
        return BoxTable(
            images=tuple(images),
            image_indices=meaning(self.image_numbers, image_indices)[kept],
            boxes=boxes,
            scores=scores,
            category_ids=ids,
            box_format=box_format,
            categories=_name_ids(ids, categories, name_kept),
            skipped=len(self.areas) - len(kept),
        )


def _name_ids(ids: Int64, known: Sequence[Category] | None, name_entry: Callable[[int], str]) -> tuple[Category, ...]:
    used = np.unique(ids)
    if known is None:
        of_coco = np.isin(used, [category.id for category in COCO]).all()
        return COCO if of_coco else tuple(Category(int(id), f"category {id}") for id in used)
    known_ids = [category.id for category in known]
    if len(set(known_ids)) != len(known_ids):
        raise DataError("two of its categories have the same id")
    for id in used[~np.isin(used, known_ids)]:
        raise DataError(f"{name_entry(int(np.argmax(ids == id)))} is of category {id}, which is not listed")
    return tuple(known)


_TAKEN = object()


def _load_json(file: TextIO, columns: _Columns, noun: str, *, has_scores: bool) -> Any:
    """Parse a file and leave `_TAKEN` in the place of each object that is a box, whose values go to `columns`."""

    def take(entry: dict[str, Any]) -> object:
        if "bbox" not in entry or "image_id" not in entry:
            return entry
        index = len(columns.areas)
        try:
            score = entry["score"] if has_scores else 1.0
            area = 1.0 if has_scores else entry.get("area", 1.0)
            columns.add(entry["image_id"], entry["bbox"], score, entry["category_id"], area)
            if isinstance(name := entry.get("file_name"), str):
                columns.names[entry["image_id"]] = name
            if frame := frames.stated(entry):
                columns.frames[entry["image_id"]] = frame
            if isinstance(label := entry.get("category_name"), str):
                columns.labels[entry["category_id"]] = label
        except KeyError as error:
            raise DataError(f"{noun} {index} has no {error}") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{noun} {index} holds a value that cannot be read: {error}") from error
        return _TAKEN

    return json.load(file, object_hook=take)


def _check_taken(entries: list[Any], columns: _Columns, noun: str) -> None:
    for index, entry in enumerate(entries):
        if entry is not _TAKEN:
            raise DataError(f"{noun} {index} has no 'bbox' or no 'image_id'")
    if len(entries) != len(columns.areas):
        raise DataError(f"it holds boxes that are no {noun} of its list")


def _read_results(file: TextIO, box_format: str | None, categories: Sequence[Category] | None) -> BoxTable:
    columns = _Columns()
    _check_taken(_load_json(file, columns, "entry", has_scores=True), columns, "entry")
    images = [
        FileImage(name=key) if isinstance(key, str) else FileImage(name=columns.names.get(key), id=key)
        for key in columns.images
    ]
    images = [replace(image, frame=columns.frames.get(key)) for key, image in zip(columns.images, images, strict=True)]
    names = [image.name for image in images if image.name is not None]
    if len(set(names)) != len(names):
        raise DataError("two of its images have the same file_name")
    if categories is None and columns.labels and set(columns.category_ids) <= columns.labels.keys():
        categories = [Category(id, label) for id, label in sorted(columns.labels.items())]
    return columns.table(images, box_format or "xywh", categories, name_entry="entry {}".format)


def _read_ground_truth(file: TextIO, box_format: str | None, categories: Sequence[Category] | None) -> BoxTable:
    columns = _Columns()
    document = _load_json(file, columns, "annotation", has_scores=False)
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise DataError(f"COCO ground truth has a list {key!r}, this has none (a results file is itself a list)")
    _check_taken(document["annotations"], columns, "annotation")
    images = [
        replace(_file_image(index, image), frame=frames.stated(image, document))
        for index, image in enumerate(document["images"])
    ]
    places: dict[int | str | None, int] = {image.id: index for index, image in enumerate(images)}
    names = [image.name for image in images if image.name is not None]
    if len(places) != len(images) or len(set(names)) != len(names):
        raise DataError("two of its images have the same id or the same file_name")
    for image_id, number in columns.images.items():
        if image_id not in places:
            index = int(np.argmax(np.asarray(columns.image_numbers) == number))
            raise DataError(f"annotation {index} is for image {image_id!r}, which is not in its list 'images'")
    if categories is None:
        categories = [_category(index, category) for index, category in enumerate(document["categories"])]
    return columns.table(
        images,
        box_format or "xywh",
        categories,
        name_entry="annotation {}".format,
        image_indices=[places[image_id] for image_id in columns.images],
    )


def _file_image(index: int, image: Any) -> FileImage:
    fields = image if isinstance(image, dict) else {}
    id, name, width, height = (fields.get(key) for key in ("id", "file_name", "width", "height"))
    if type(id) is not int or not isinstance(name, str | None):
        raise DataError(f"image {index} needs a whole number 'id' and a text 'file_name'")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return FileImage(name, id, (width, height))
    return FileImage(name, id)


def _category(index: int, category: Any) -> Category:
    fields = category if isinstance(category, dict) else {}
    id, name = fields.get("id"), fields.get("name")
    if type(id) is not int or not isinstance(name, str):
        raise DataError(f"category {index} needs a whole number 'id' and a text 'name'")
    return Category(id, name)


_CSV_BOXES = {"xyxy": ("x1", "y1", "x2", "y2"), "xywh": ("x", "y", "w", "h"), "cxcywh": ("cx", "cy", "w", "h")}


def _read_csv(file: TextIO, box_format: str | None, categories: Sequence[Category] | None) -> BoxTable:
    reader = csv.DictReader(file)
    header = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    box_format = box_format or next((name for name in _CSV_BOXES if set(_CSV_BOXES[name]) <= set(header)), "xyxy")
    box = _CSV_BOXES[box_format.partition("-")[0]]
    if missing := {"image", *box} - set(header):
        raise DataError(
            f"its header has no {', '.join(sorted(missing))}: a CSV of boxes starts with image,x1,y1,x2,y2 or "
            "image,x,y,w,h or image,cx,cy,w,h, and may have score and category"
        )
    label = next((name for name in ("category", "label") if name in header), None)
    columns, labels, lines = _Columns(), dict[str, int](), array("q")
    for row in reader:
        try:
            columns.add(
                row["image"].strip(),
                [float(row[name]) for name in box],
                float(row["score"]) if "score" in header else 1.0,
                labels.setdefault(row[label].strip() if label else OBJECT.name, len(labels)),
            )
        except (TypeError, ValueError, AttributeError) as error:  # a short line holds None
            raise DataError(f"line {reader.line_num} holds a value that is missing or not a number") from error
        lines.append(reader.line_num)
    ids, known = _label_ids(labels, categories)
    return columns.table(
        [FileImage(name=str(name)) for name in columns.images],
        box_format,
        known,
        name_entry=lambda index: f"line {lines[index]}",
        category_ids=ids,
    )


def _label_ids(
    labels: Collection[str], categories: Sequence[Category] | None
) -> tuple[list[int], Sequence[Category] | None]:
    """The category id of each label (a name or an id), and the categories if the labels tell them."""
    if all(label.isdecimal() for label in labels):
        return [int(label) for label in labels], categories
    if categories is None:
        coco = set(labels) <= {category.name for category in COCO}
        categories = COCO if coco else [Category(index, label) for index, label in enumerate(labels, 1)]
    ids = {category.name: category.id for category in categories}
    for label in labels:
        if label not in ids:
            raise DataError(f"its label {label!r} is none of the categories")
    return [ids[label] for label in labels], categories


_READERS = {"[": _read_results, "{": _read_ground_truth}
