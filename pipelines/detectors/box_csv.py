"""Boxes in a CSV: `image,x1,y1,x2,y2` or `image,x,y,w,h` or `image,cx,cy,w,h`, perhaps with score and category."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Collection, Sequence
from typing import Any, TextIO

from pipelines import coco
from pipelines.categories import COCO, OBJECT
from pipelines.detectors.box_columns import BoxTable, Columns, ListedImage, read_id
from pipelines.errors import DataError
from pipelines.types import Category

_ID = re.compile(r"\d{1,99}(\.0*)?")
"""An id in a CSV, which may have gone through a table."""
_BOXES = {"xyxy": ("x1", "y1", "x2", "y2"), "xywh": ("x", "y", "w", "h"), "cxcywh": ("cx", "cy", "w", "h")}


def read_csv(file: TextIO, box_format: str | None, categories: Sequence[Category] | None) -> BoxTable:
    """Read a file whose header says how its boxes are written. See `box_table.read_box_table`."""
    try:
        return _read(file, box_format, categories)
    except csv.Error as error:
        raise DataError(f"its CSV cannot be read ({error})") from error


def _read(file: TextIO, box_format: str | None, categories: Sequence[Category] | None) -> BoxTable:
    reader = csv.DictReader(file)
    header = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    box_format = box_format or next((name for name in _BOXES if set(_BOXES[name]) <= set(header)), "xyxy")
    box = _BOXES[box_format.partition("-")[0]]
    if missing := {"image", *box} - set(header):
        raise DataError(
            f"its header has no {', '.join(sorted(missing))}: a CSV of boxes starts with image,x1,y1,x2,y2 or "
            "image,x,y,w,h or image,cx,cy,w,h, and may have score and category"
        )
    label = next((name for name in ("category", "label") if name in header), None)
    columns, labels, lines = Columns(), dict[str, int](), array("q")
    for row in reader:
        with coco.named(f"line {reader.line_num}"):
            image, name = _text(row, "image"), _text(row, label) if label else OBJECT.name
            score = _number(row, "score") if "score" in header else 1.0
            columns.add(image, [_number(row, side) for side in box], score, labels.setdefault(name, len(labels)))
        lines.append(reader.line_num)
    ids, known = _label_ids(labels, categories)
    return columns.table(
        [ListedImage(name=str(name)) for name in columns.images],
        box_format,
        known,
        name_entry=lambda index: f"line {lines[index]}",
        category_ids=ids,
    )


def _text(row: dict[str, Any], field: str) -> str:
    text = row[field]
    if not isinstance(text, str) or (field == "image" and not text.strip()):  # a short line holds None
        raise DataError(f"it has no '{field}'")
    return text.strip()


def _number(row: dict[str, Any], field: str) -> float:
    text = _text(row, field)
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"'{field}' is {coco.told(text)}, not a number") from None
    return value if abs(value) < coco.FARTHEST else coco.number({field: value}, field)


def _label_ids(
    labels: Collection[str], categories: Sequence[Category] | None
) -> tuple[list[int], Sequence[Category] | None]:
    """The category id of each label (a name or an id), and the categories if the labels tell them."""
    if all(_ID.fullmatch(label) for label in labels):
        numbers = [float(label) if "." in label else int(label) for label in labels]
        return [read_id({"category": number}, "category") for number in numbers], categories
    if categories is None:
        of_coco = set(labels) <= {category.name for category in COCO}
        categories = COCO if of_coco else [Category(index, label) for index, label in enumerate(labels, 1)]
    ids = {category.name: category.id for category in categories}
    for label in labels:
        if label not in ids:
            raise DataError(f"its label {coco.told(label)} is none of the categories")
    return [ids[label] for label in labels], categories
