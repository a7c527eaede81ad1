"""LabelMe's JSON files, one a photo (labelmeai/labelme, labelme/_label_file.py).

Points are pixels, x to the right and y down, (0, 0) the corner of the first pixel. Shapes of one label that share a
group_id are the parts of one object. A shape of type "mask" has a PNG that fills the rectangle of its two points, both
ends included.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from pipelines import coco, rle
from pipelines.errors import DataError, ImageError
from pipelines.files import read_json
from pipelines.images.needed import needed_of_png
from pipelines.images.sources import IMAGE_EXTENSIONS
from pipelines.labels import Asked, Labels
from pipelines.labels.classes import from_labels
from pipelines.labels.files import label_files
from pipelines.labels.instances import (
    LEAST_NUMBERS,
    check_polygons,
    image_record,
    of_corners,
    of_mask,
    of_polygons,
    union,
)
from pipelines.labels.left_out import LeftOut
from pipelines.labels.photos import size_of_photo
from pipelines.labels.values import class_name, name_below, size_of
from pipelines.records import InstanceRecord, Record
from pipelines.types import Bool, Category

_WHAT = "a LabelMe file"
Shape = dict[str, Any]


def read(path: Path, asked: Asked) -> Labels:
    """path: a file, or a folder of them. See `pipelines.labels`."""
    root = path if path.is_dir() else path.parent
    files = list(label_files(path, (".json",))) if path.is_dir() else [path]
    left_out, labels, own = LeftOut(), dict[str, None](), list[Path]()
    for file in files:
        if (document := _document(file)) is None:
            left_out.add("JSON file that is not LabelMe's", file.name)
            continue
        own.append(file)
        with coco.named(str(file)):
            labels |= dict.fromkeys(coco.each("shape", _shapes(document), lambda _, shape: _label(shape)))
    reader = _Reader(root, from_labels(labels), asked, left_out)
    return Labels(tuple(reader.categories.values()), map(reader.record, own), len(own), left_out, reader.photos)


def _document(file: Path) -> dict[str, Any] | None:
    document = read_json(file, _WHAT)
    fits = isinstance(document, dict) and "shapes" in document
    return document if fits else None


def _shapes(document: Mapping[str, Any]) -> list[Shape]:
    shapes = document["shapes"]
    if not isinstance(shapes, list):
        raise DataError(f"'shapes' is {coco.told(shapes)}, not a list")
    return coco.each("shape", shapes, lambda _, shape: shape)


def _label(shape: Shape) -> str:
    return class_name(coco.text(shape, "label"))


@dataclass(frozen=True)
class _Reader:
    root: Path
    categories: Mapping[str, Category]
    asked: Asked
    left_out: LeftOut
    photos: dict[str, Path] = field(default_factory=dict)

    def record(self, file: Path) -> Record:
        document = _document(file)
        with coco.named(str(file)):
            if document is None:
                raise DataError("it has changed while it was read")
            said = coco.text(document, "imagePath")
            name = name_below(file.parent.relative_to(self.root).as_posix(), said, beside=True)
            if (photo := file.parent / said.replace("\\", "/")).suffix.lower() in IMAGE_EXTENSIONS and photo.is_file():
                self.photos[name] = photo
            try:
                size = self._size(file, document)
            except ImageError as error:
                return Record(name, 0, 0, 0, "failed", f"{file.name} does not state its size, and {error}")
            instances = [self._instance(shapes, size) for shapes in self._objects(document, name)]
        return image_record(name, size, instances)

    def _size(self, file: Path, document: Mapping[str, Any]) -> tuple[int, int]:
        """As the file says, or else as the photo is."""
        if document.get("imageWidth") and document.get("imageHeight"):
            return size_of(document["imageWidth"], document["imageHeight"])
        name = name_below("", coco.text(dict(document), "imagePath"))
        return size_of_photo(self.asked, name, file.name, file.parent) if self.asked.masks else (1, 1)

    def _objects(self, document: Mapping[str, Any], name: str) -> Iterator[list[tuple[int, Shape]]]:
        """The shapes of each object, with their numbers, in the order of its first."""
        objects: dict[object, list[tuple[int, Shape]]] = {}
        for number, shape in enumerate(_shapes(document)):
            kind = shape.get("shape_type") or "polygon"
            if not isinstance(kind, str) or kind not in _KINDS:
                self.left_out.add(f"shape of type {coco.told(kind)}", name)
                continue
            if kind in _ROTATED:
                self.left_out.add("box that is rotated", name, read="read as the upright box around it")
            group = shape.get("group_id")
            if not isinstance(group, int | str | None):
                raise DataError(f"shape {number}: 'group_id' is {coco.told(group)}, not a number")
            key = (number,) if group is None else (_label(shape), group)
            objects.setdefault(key, []).append((number, shape))
        yield from objects.values()

    def _instance(self, shapes: Sequence[tuple[int, Shape]], size: tuple[int, int]) -> InstanceRecord:
        parts = []
        for number, shape in shapes:
            with coco.named(f"shape {number}"):
                category = self.categories[_label(shape)]
                score = 1.0 if shape.get("score") is None else coco.number(shape, "score")
                kind = _KINDS[shape.get("shape_type") or "polygon"]
                parts.append(kind(shape, category.id, size, score, self.asked.masks))
        return union(parts)


def _points(shape: Shape, least: int) -> list[float]:
    """x and y in turn."""
    points = coco.needed(shape, "points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise DataError(f"'points' is {coco.told(points)}, not a list of points [x, y]")
    numbers = [value for point in points for value in point]
    check_polygons([numbers])
    if len(numbers) < least:
        raise DataError(f"it has {len(points)} points, too few for its type")
    return numbers


def _polygon(shape: Shape, id: int, size: tuple[int, int], score: float, masks: bool) -> InstanceRecord:
    return of_polygons(id, [_points(shape, LEAST_NUMBERS)], size, score, masks=masks)


def _rectangle(shape: Shape, id: int, size: tuple[int, int], score: float, masks: bool) -> InstanceRecord:
    """Two corners, or all four."""
    points = _points(shape, 4)
    return of_corners(id, min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2]), score)


def _mask(shape: Shape, id: int, size: tuple[int, int], score: float, masks: bool) -> InstanceRecord:
    points, (width, height) = _points(shape, 4), size
    x, y = int(min(points[::2])), int(min(points[1::2]))
    if not masks:
        return of_corners(id, x, y, int(max(points[::2])) + 1, int(max(points[1::2])) + 1, score)
    pixels = _png(coco.text(shape, "mask"), width * height)
    if x < 0 or y < 0 or x + pixels.shape[1] > width or y + pixels.shape[0] > height:
        raise DataError(
            f"its mask, {pixels.shape[1]} x {pixels.shape[0]} from {x}, {y}, leaves its image of {width} x {height}"
        )
    return of_mask(id, rle.from_region(pixels, x, y, height, width), score)


def _png(text: str, most: int) -> Bool:
    """h x w, of a PNG of that many pixels at most."""
    try:
        file = needed_of_png(io.BytesIO(base64.b64decode(text, validate=True)), most).file
        picture = PngImageFile(file, "")
        return np.asarray(picture.convert("L")) > 0
    except (binascii.Error, ImageError, SyntaxError, ValueError, OSError) as error:
        raise DataError(f"'mask' is no PNG that can be read: {error}") from error


_ROTATED = ("oriented_rectangle", "rotation")
"""As LabelMe and X-AnyLabeling call it."""
_KINDS = {"polygon": _polygon, "rectangle": _rectangle, "mask": _mask, **dict.fromkeys(_ROTATED, _rectangle)}
