"""Label Studio's JSON export: a list of tasks (HumanSignal/label-studio-sdk, label_studio_sdk/converter).

Of a task the annotation is read, or where there is none, the prediction: rectangles, polygons and brushes. Their
coordinates are per cent of the image; a brush is what `brush_rle` unpacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pipelines import coco, rle
from pipelines.errors import DataError, ImageError
from pipelines.files import reading
from pipelines.labels import Asked, Labels
from pipelines.labels.brush_rle import mask_of_brush
from pipelines.labels.classes import from_labels
from pipelines.labels.instances import check_polygons, image_record, of_box, of_mask, of_polygons
from pipelines.labels.json_stream import entries
from pipelines.labels.left_out import LeftOut
from pipelines.labels.photos import size_of_photo
from pipelines.labels.rotated import around_turned
from pipelines.labels.values import name_below, size_of
from pipelines.records import InstanceRecord, Record
from pipelines.types import Category

_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of a file that is uploaded."""
_PLAIN = ("rectangle", "polygon", "brush")
"""Shapes without a label, which another region of the same id has."""
Size = tuple[int, int]
Fields = dict[str, Any]


def read(path: Path, asked: Asked) -> Labels:
    """path: a file. See `pipelines.labels`."""
    labels, count = dict[str, None](), 0
    for number, task in _tasks(path):
        count += 1
        with coco.named(f"{path}: task {number}"):
            result, _ = _result(task)
            labels |= dict.fromkeys(label for region in result if (label := _label(region, {})) is not None)
    reader = _Reader(path, from_labels(labels), asked, LeftOut())
    return Labels(tuple(reader.categories.values()), reader.records(), count, reader.left_out)


def _tasks(path: Path) -> Iterator[tuple[int, Fields]]:
    with reading(path, "a Label Studio export"), path.open("rb") as file, coco.named(str(path)):
        for number, entry in enumerate(entries(file)):
            if not entry.in_list or entry.key is not None:
                raise DataError("a Label Studio export is a list of tasks: this is none")
            yield number, coco.fields(entry.value)


def _result(task: Fields) -> tuple[list[Fields], int]:
    """The regions of a task, and how many annotations and predictions of it are passed over."""
    if "annotations" not in task and "predictions" not in task:
        raise DataError("it has neither 'annotations' nor 'predictions': export as JSON, not as JSON-MIN")
    kept = [each for each in _list(task, "annotations") if not each.get("was_cancelled")]
    chosen = next((each for each in kept if each.get("ground_truth")), kept[-1] if kept else None)
    predictions = _list(task, "predictions")
    if chosen is None and predictions:
        chosen = predictions[-1]
    passed = len(kept) + len(predictions) - (chosen is not None)
    return (_list(chosen, "result") if chosen else []), passed


def _list(entry: Fields, field: str) -> list[Fields]:
    values = entry.get(field) or []
    if not isinstance(values, list):
        raise DataError(f"'{field}' is {coco.told(values)}, not a list")
    return coco.each(f"{field} entry", values, lambda _, each: each)


def _label(region: Fields, others: Mapping[str, str]) -> str | None:
    """Of a shape, None of what is none. others: labels of regions that are no shapes, by id."""
    kind = region.get("type")
    if kind in _PLAIN:
        return others.get(str(region.get("id")))
    if kind not in (*_KINDS, "labels"):
        return None
    names = coco.fields(coco.needed(region, "value")).get(kind)
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise DataError(f"'{kind}' is {coco.told(names)}, not a list of labels")
    return names[0]


@dataclass(frozen=True)
class _Reader:
    path: Path
    categories: Mapping[str, Category]
    asked: Asked
    left_out: LeftOut

    def records(self) -> Iterator[Record]:
        for number, task in _tasks(self.path):
            with coco.named(f"{self.path}: task {number}"):
                yield self._record(task)

    def _record(self, task: Fields) -> Record:
        name = _image_name(task)
        result, passed = _result(task)
        if passed:
            self.left_out.add("further annotation or prediction of a task", name, passed)
        labels = {
            str(region.get("id")): _label(region, {}) or "" for region in result if region.get("type") == "labels"
        }
        size: Size | None = None
        instances = []
        for number, region in enumerate(result):
            with coco.named(f"region {number}"):
                kind = str(region.get("type"))
                if kind == "labels":
                    continue
                shape = _KINDS.get(kind if kind not in _PLAIN else f"{kind}labels")
                label = _label(region, labels)
                if shape is None or not label:
                    self.left_out.add(
                        f"region of type {coco.told(kind)}" if shape is None else "region without label", name
                    )
                    continue
                size = _size(region, size)
                value = coco.fields(coco.needed(region, "value"))
                found = shape(self, value, self.categories[label].id, size, name)
                instances.append(_scored(region, found))
        return self._empty(task, name) if size is None else image_record(name, size, instances)

    def _empty(self, task: Fields, name: str) -> Record:
        """A task without shapes, which alone say how large its image is."""
        size = coco.stated_size(coco.fields(task["data"])) if self.asked.masks else (1, 1)
        try:
            return image_record(name, size or size_of_photo(self.asked, name, self.path.name), ())
        except ImageError as error:
            return Record(name, 0, 0, 0, "failed", str(error))

    def rectangle(self, value: Fields, id: int, size: Size, name: str) -> InstanceRecord:
        x, y, w, h = (coco.number(value, side) for side in ("x", "y", "width", "height"))
        sx, sy = size[0] / 100, size[1] / 100
        box = (x * sx, y * sy, w * sx, h * sy)
        angle = coco.number(value, "rotation") if value.get("rotation") is not None else 0.0
        if angle % 360:
            self.left_out.add("box that is rotated", name, read="read as the upright box around it")
            box = around_turned(*box, angle)
        return of_box(id, box)

    def polygon(self, value: Fields, id: int, size: Size, name: str) -> InstanceRecord:
        points = coco.needed(value, "points")
        if (
            not isinstance(points, list)
            or not all(isinstance(p, list) and len(p) == 2 for p in points)
            or len(points) < 3
        ):
            raise DataError(f"'points' is {coco.told(points)}, not three points [x, y] or more")
        check_polygons([[number for point in points for number in point]])
        corners = [number * side / 100 for point in points for number, side in zip(point, size, strict=True)]
        return of_polygons(id, [corners], size, masks=self.asked.masks)

    def brush(self, value: Fields, id: int, size: Size, name: str) -> InstanceRecord:
        if value.get("format") != "rle":
            raise DataError(f"'format' is {coco.told(value.get('format'))}, not \"rle\"")
        mask = mask_of_brush(coco.needed(value, "rle"), *size)
        return of_mask(id, mask) if self.asked.masks else of_box(id, rle.bbox(mask))


_KINDS: Mapping[str, Callable[[_Reader, Fields, int, Size, str], InstanceRecord]] = {
    "rectanglelabels": _Reader.rectangle,
    "polygonlabels": _Reader.polygon,
    "brushlabels": _Reader.brush,
}


def _size(region: Fields, known: Size | None) -> Size:
    """That of its image, which is the same for all regions."""
    size = size_of(region.get("original_width"), region.get("original_height"))
    if known not in (None, size):
        raise DataError(f"its image is said to be {size[0]} x {size[1]}, and before {known[0]} x {known[1]}")
    if region.get("image_rotation"):
        raise DataError("its image was rotated in Label Studio, which is not read")
    return size


def _scored(region: Fields, found: InstanceRecord) -> InstanceRecord:
    if region.get("score") is not None:
        found["score"] = coco.number(region, "score")
    return found


def _image_name(task: Fields) -> str:
    data = coco.fields(coco.needed(task, "data"))
    texts = [value for value in data.values() if isinstance(value, str)]
    text = data.get("image") or next((each for each in texts if PurePosixPath(each).suffix), None)
    if not isinstance(text, str):
        raise DataError("its 'data' name no image")
    url = urlsplit(text)
    if local := parse_qs(url.query).get("d"):
        return name_below("", local[0])
    path = unquote(url.path) if url.scheme or url.path.startswith("/data/") else text
    if path.startswith("/data/upload/"):
        return name_below("", _UPLOADED.sub("", PurePosixPath(path).name))
    return name_below("", path)
