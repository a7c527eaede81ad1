"""Tables with a row an object, in CSV: evsam's own, and any whose header has `image` and the columns of a box.

Of evsam's columns (`pipelines.outputs.table`) all but the box may be missing. The rows of an image follow each other.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pipelines import coco, rle
from pipelines.boxes import to_xyxy
from pipelines.categories import OBJECT
from pipelines.errors import DataError, ImageError
from pipelines.files import reading
from pipelines.labels import Asked, Labels
from pipelines.labels.classes import categories_of_ids, from_labels
from pipelines.labels.instances import image_record, of_box, of_mask
from pipelines.labels.left_out import LeftOut
from pipelines.labels.photos import size_of_photo
from pipelines.labels.values import name_below, number, whole
from pipelines.records import InstanceRecord, Record
from pipelines.types import Category, Rle

BOXES = {"xyxy": ("x1", "y1", "x2", "y2"), "xywh": ("x", "y", "w", "h"), "cxcywh": ("cx", "cy", "w", "h")}
SCORES = ("score", "predicted_iou", "stability_score")
_OTHERS = ("image", "image_id", "width", "height", "category", "label", "category_id", "area", "rle")
USED = {*_OTHERS, *SCORES}.union(*BOXES.values())
LONGEST = 2**30
"""Characters of a cell: of run lengths."""
Row = Mapping[str, Any]


def read(path: Path, asked: Asked) -> Labels:
    """path: a CSV file. See `pipelines.labels`."""
    csv.field_size_limit(LONGEST)
    with reading(path, "a CSV file"), path.open(encoding="utf-8-sig", newline="") as file:
        columns = [name.strip().lower() for name in next(csv.reader(file), [])]
    return read_table(path, columns, lambda: _rows(path, columns), asked)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    with reading(path, "a CSV file"), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        next(reader, None)
        try:
            for cells in reader:
                if cells:
                    yield f"line {reader.line_num}", dict(zip(columns, cells, strict=False))
        except csv.Error as error:
            raise DataError(f"{path}: its CSV cannot be read ({error})") from error


def read_table(
    path: Path, columns: Sequence[str], rows: Callable[[], Iterator[tuple[str, Row]]], asked: Asked
) -> Labels:
    """rows: call it for all rows, each a value by column and what a message calls it. A value that is None or "" is
    missing."""
    layout = next((name for name in BOXES if set(BOXES[name]) <= set(columns)), None)
    if "image" not in columns or layout is None:
        raise DataError(f"{path}: its columns are not image and x, y, w, h, or x1, y1, x2, y2, or cx, cy, w, h")
    label = next((name for name in ("category", "label") if name in columns), None)
    names, ids, images = dict[str, None](), dict[int, str](), set[str]()
    last: str | None = None
    for entry, row in rows():
        with coco.named(f"{path}: {entry}"):
            image = _text(row, "image")
            if image != last and image in images:
                raise DataError(f"the rows of {image} do not follow each other: sort the table by image")
            images.add(last := image)
            name = _text(row, label) if label else OBJECT.name
            names[name] = None
            if "category_id" in columns:
                id = _whole(row, "category_id")
                if label and ids.setdefault(id, name) != name:
                    raise DataError(f"category {id} is called {coco.told(ids[id])}, and {coco.told(name)}")
    reader = _Reader(path, layout, label, _categories(names, ids, label, asked), asked)
    found = dict.fromkeys(reader.categories.values())
    left_out = LeftOut()
    for column in sorted(set(columns) - USED):
        left_out.add(f"column {coco.told(column)}", path.name)
    has_ids = "image_id" in columns
    return Labels(tuple(found), reader.records(rows), len(images), left_out, ids=has_ids)


def _categories(
    names: Iterable[str], ids: Mapping[int, str], label: str | None, asked: Asked
) -> Mapping[str | int, Category]:
    """By id where there are ids, else by name, which may be a number."""
    if ids and label:
        return {id: Category(id, name) for id, name in sorted(ids.items())}
    numbers = [int(name) for name in names if name.isdecimal()]
    if ids or len(numbers) == len(list(names)):
        used = list(ids) or numbers
        return {each.id: each for each in categories_of_ids(used, asked.names)}
    return {name: category for name, category in from_labels(names).items()}


@dataclass(frozen=True)
class _Reader:
    path: Path
    layout: str
    label: str | None
    categories: Mapping[str | int, Category]
    asked: Asked

    def records(self, rows: Callable[[], Iterator[tuple[str, Row]]]) -> Iterator[Record]:
        for _, group in groupby(rows(), lambda each: each[1].get("image")):
            yield self._record(list(group))

    def _record(self, rows: Sequence[tuple[str, Row]]) -> Record:
        entry, first = rows[0]
        with coco.named(f"{self.path}: {entry}"):
            name = name_below("", _text(first, "image"))
            id = _whole(first, "image_id") if _has(first, "image_id") else 0
            try:
                size = self._size(first, name)
            except ImageError as error:
                return Record(name, id, 0, 0, "failed", str(error))
        instances = []
        for entry, row in rows:
            with coco.named(f"{self.path}: {entry}"):
                instances.append(self._instance(row, size))
        return image_record(name, size, instances, image_id=id)

    def _size(self, row: Row, name: str) -> tuple[int, int]:
        if _has(row, "width") and _has(row, "height"):
            return coco.image_size({"width": _whole(row, "width"), "height": _whole(row, "height")})
        return size_of_photo(self.asked, name, self.path.name) if self.asked.masks else (1, 1)

    def _instance(self, row: Row, size: tuple[int, int]) -> InstanceRecord:
        numbers = [_number(row, side) for side in BOXES[self.layout]]
        x1, y1, x2, y2 = map(float, to_xyxy([numbers], self.layout, width=1, height=1, allow_empty=True)[0])
        box = numbers if self.layout == "xywh" else (x1, y1, x2 - x1, y2 - y1)
        key: str | int = _whole(row, "category_id") if _has(row, "category_id") else self._key(row)
        if key not in self.categories:
            raise DataError(f"category {coco.told(key)} has no name")
        id = self.categories[key].id
        if self.asked.masks and _has(row, "rle"):
            mask = Rle(size=[size[1], size[0]], counts=_text(row, "rle"))
            rle.check(mask)
            found = of_mask(id, mask, box=box)
        else:
            found = of_box(id, box)
        for score in SCORES:
            if _has(row, score):
                found[score] = _number(row, score)  # type: ignore[literal-required]
        return found

    def _key(self, row: Row) -> str | int:
        name = _text(row, self.label) if self.label else OBJECT.name
        return int(name) if name.isdecimal() and int(name) in self.categories else name


def _has(row: Row, column: str) -> bool:
    return row.get(column) not in (None, "")


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"it has no '{column}'")
    return value.strip()


def _number(row: Row, column: str) -> float:
    value = row.get(column)
    return number(value, column) if isinstance(value, str) else coco.number({column: value}, column)


def _whole(row: Row, column: str) -> int:
    value = row.get(column)
    return whole(value, column) if isinstance(value, str) else coco.whole_number({column: value}, column)
