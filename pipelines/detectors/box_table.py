"""Files of boxes, read whole and checked: COCO results, COCO ground truth, CSV; and `pipelines.labels` of other tools.

The published results lists hold millions of boxes, so each is taken out of the JSON as it is parsed, into flat
arrays of 36 bytes a box. Values that are as they should be are told at a glance; the others are read by
`pipelines.coco`, which knows what is meant or says what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pipelines import coco
from pipelines.boxes import BOX_FORMATS
from pipelines.detectors.box_columns import LEAST, BoxTable, Columns, ListedImage
from pipelines.detectors.box_csv import read_csv
from pipelines.detectors.box_labels import read_label_boxes
from pipelines.errors import DataError, UnknownNameError, UsageError
from pipelines.files import reading
from pipelines.labels import LABELS
from pipelines.labels.glimpse import of_a_tool
from pipelines.types import Category, Frame


def read_box_table(
    path: Path,
    box_format: str | None = None,
    categories: Sequence[Category] | None = None,
    *,
    class_names: Sequence[str] | None = None,
) -> BoxTable:
    """Read a file of boxes, or a folder of them; its content tells its kind.

    A JSON list is COCO results, whose entries may have file_name and category_name; a JSON object is COCO ground truth,
    crowds and all, whatever its `area` says, unless either is of another row of `LABELS`; what is of none is CSV.
    box_format: one of `BOX_FORMATS`; None: COCO's xywh, or what the CSV's header says; or a name of `LABELS`.
    class_names: in their order, for formats that may lack them. categories: what ids and labels mean; None: what
    the file says, else COCO's 80 where every id or label is one of theirs, else "category 7". Raises DataError naming
    the file and the entry, UnknownNameError for the format.
    """
    if box_format is not None and box_format not in (*BOX_FORMATS, *LABELS):
        raise UnknownNameError("box format", box_format, [*BOX_FORMATS, *LABELS])
    if box_format in LABELS or path.is_dir() or of_a_tool(path):
        if box_format in BOX_FORMATS:
            raise UsageError(f"{path} says itself how its boxes count: drop --box-format {box_format}")
        return read_label_boxes(path, box_format, categories, class_names)
    with reading(path, "a file of boxes"), coco.named(str(path)), path.open(encoding="utf-8-sig", newline="") as file:
        start = file.read(4096).lstrip()[:1]
        file.seek(0)
        return _READERS.get(start, read_csv)(file, box_format, categories)


_TAKEN = object()


def _load_json(file: TextIO, columns: Columns, noun: str, *, has_scores: bool) -> Any:
    """Parse a file and leave `_TAKEN` in the place of each object that is a box, whose values go to `columns`."""
    fields = ("image_id", "file_name") if has_scores else ("image_id",)

    def take(entry: dict[str, Any]) -> object:
        if "bbox" not in entry or entry.keys().isdisjoint(fields):
            return entry
        index = len(columns.scores)
        try:
            score = coco.needed(entry, "score") if has_scores else 1.0
            columns.take(entry, score, named=has_scores)
        except DataError as error:
            raise DataError(f"{noun} {index}: {error}") from error
        return _TAKEN

    return json.load(file, object_hook=take)


def _check_taken(entries: list[Any], columns: Columns, noun: str) -> None:
    for index, entry in enumerate(entries):
        if entry is not _TAKEN:
            raise DataError(f"{noun} {index} has no 'bbox' or no 'image_id'")
    if len(entries) != len(columns.scores):
        raise DataError(f"it holds boxes that are no {noun} of its list")


def _read_results(file: TextIO, box_format: str | None, categories: Sequence[Category] | None) -> BoxTable:
    columns = Columns()
    _check_taken(_load_json(file, columns, "entry", has_scores=True), columns, "entry")
    images = [
        ListedImage(
            columns.names.get(key, key if isinstance(key, str) else None),
            None if isinstance(key, str) else key,
            frame=columns.frames.get(key),
        )
        for key in columns.images
    ]
    _check_names(images)
    if categories is None and columns.labels and set(columns.category_ids) <= columns.labels.keys():
        categories = [Category(id, label) for id, label in sorted(columns.labels.items())]
    return columns.table(images, box_format or "xywh", categories, name_entry="entry {}".format)


def _read_ground_truth(file: TextIO, box_format: str | None, categories: Sequence[Category] | None) -> BoxTable:
    columns = Columns()
    document = _load_json(file, columns, "annotation", has_scores=False)
    _check_taken(coco.lists(document)["annotations"], columns, "annotation")
    images = coco.images(document, _listed_image, least=LEAST)
    _check_names(list(images.values()))
    places: dict[int | str, int] = {id: index for index, id in enumerate(images)}
    for image_id, number in columns.images.items():
        if image_id not in places:
            index = int(np.argmax(np.asarray(columns.image_numbers) == number))
            raise DataError(f"annotation {index} is for image {image_id!r}, which is not in its list 'images'")
    told = coco.categories(document, least=LEAST)
    return columns.table(
        list(images.values()),
        box_format or "xywh",
        told if categories is None else categories,
        name_entry="annotation {}".format,
        image_indices=[places[image_id] for image_id in columns.images],
    )


def _listed_image(id: int, entry: dict[str, Any], frame: Frame | None) -> ListedImage:
    return ListedImage(coco.image_name(entry), id, coco.stated_size(entry), frame)


def _check_names(images: Sequence[ListedImage]) -> None:
    coco.check_distinct("images", "file_name", [image.name for image in images if image.name is not None])


_READERS = {"[": _read_results, "{": _read_ground_truth}
