"""Pascal VOC's XML files, one a photo, and its PNGs of instances (Everingham et al., VOC development kit, section 5).

Coordinates count from 1 and include both ends: the first pixel's box is 1, 1, 1, 1. Where `SegmentationObject` beside
the XML files has a PNG, its value i is the mask of object i of the XML; else a `polygon` of an object is its mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from pipelines import coco, rle
from pipelines.errors import DataError, ImageError
from pipelines.images.needed import needed_of_png
from pipelines.labels import Asked, Labels
from pipelines.labels.classes import from_labels
from pipelines.labels.files import label_files
from pipelines.labels.instances import image_record, of_corners, of_mask, of_polygons
from pipelines.labels.left_out import LeftOut
from pipelines.labels.photos import size_of_photo
from pipelines.labels.values import name_below, number, size
from pipelines.labels.xml import elements, text_of
from pipelines.records import InstanceRecord, Record
from pipelines.types import Bool, Category, Int64, Rle

_WHAT = "a Pascal VOC file"
_INSTANCES = "SegmentationObject"
_ANNOTATIONS = "Annotations"
_BORDER = 255
"""Of instances' PNGs: pixels that are left open."""
_BESIDE = 2
_FLAGS = ("truncated", "difficult", "occluded")


def read(path: Path, asked: Asked) -> Labels:
    """path: a file, or a folder of them. See `pipelines.labels`."""
    root = path if path.is_dir() else path.parent
    files = list(label_files(path, (".xml",))) if path.is_dir() else [path]
    left_out, labels, own = LeftOut(), dict[str, None](), list[Path]()
    for file in files:
        root_element, *children = elements(file, _WHAT)
        if root_element.tag != "annotation":
            left_out.add("XML file that is not VOC's", file.name)
            continue
        own.append(file)
        with coco.named(str(file)):
            labels |= dict.fromkeys(text_of(child, "name") for child in children if child.tag == "object")
    reader = _Reader(root, from_labels(labels), asked, left_out)
    return Labels(tuple(reader.categories.values()), map(reader.record, own), len(own), left_out)


@dataclass(frozen=True)
class _Reader:
    root: Path
    categories: Mapping[str, Category]
    asked: Asked
    left_out: LeftOut

    def record(self, file: Path) -> Record:
        annotation = Element("annotation")
        annotation.extend(list(elements(file, _WHAT))[1:])
        with coco.named(str(file)):
            name = self._name(file, annotation)
            try:
                measures = self._size(file, annotation, name)
            except ImageError as error:
                return Record(name, 0, 0, 0, "failed", f"{file.name} does not state its size, and {error}")
            masks = self._masks(file, measures) if self.asked.masks else {}
            instances = []
            for index, each in enumerate(annotation.iterfind("object"), 1):
                with coco.named(f"object {index}"):
                    instances.append(self._instance(each, name, measures, masks.pop(index, None)))
            if masks:
                self.left_out.add(f"mask of {_INSTANCES} that no object has the number of", name, len(masks))
        return image_record(name, measures, instances)

    def _name(self, file: Path, annotation: Element) -> str:
        """Its filename, in the folder that the XML file is in."""
        parts = [part for part in file.parent.relative_to(self.root).parts if part != _ANNOTATIONS]
        stated = (annotation.findtext("filename") or "").strip() or f"{file.stem}.jpg"
        return name_below("/".join(parts), PurePosixPath(stated.replace("\\", "/")).name)

    def _size(self, file: Path, annotation: Element, name: str) -> tuple[int, int]:
        stated = annotation.find("size")
        if stated is not None and stated.findtext("width") not in (None, "0"):
            return size(text_of(stated, "width"), text_of(stated, "height"))
        if not self.asked.masks:
            return 1, 1
        return size_of_photo(self.asked, name, file.name, file.parent)

    def _masks(self, file: Path, measures: tuple[int, int]) -> dict[int, Rle]:
        """By number of the object."""
        below = file.parent.parts[len(self.root.parts) :]
        places = [file.parent.parent / _INSTANCES, self.root / _INSTANCES]
        if _ANNOTATIONS in below:  # Annotations/train/a.xml has SegmentationObject/train/a.png
            at = len(self.root.parts) + below.index(_ANNOTATIONS)
            places.insert(0, Path(*file.parts[:at], _INSTANCES, *file.parts[at + 1 : -1]))
        png = next((p for place in places if (p := place / f"{file.stem}.png").is_file()), None)
        if png is None:
            return {}
        width, height = measures
        values, open_ends = _values(png, width * height)
        if values.shape != (height, width):
            raise DataError(f"{png} is {values.shape[1]} x {values.shape[0]}, its image {width} x {height}")
        found = np.flatnonzero(np.bincount(values.ravel())) if values.itemsize <= 2 else np.unique(values)
        return {value: _encoded(values == value) for value in found.tolist() if value not in (0, open_ends)}

    def _instance(self, each: Element, name: str, measures: tuple[int, int], mask: Rle | None) -> InstanceRecord:
        category = self.categories[text_of(each, "name")]
        for flag in _FLAGS:
            if (each.findtext(flag) or "0").strip() not in ("0", "Unspecified"):
                self.left_out.add(f"flag '{flag}'", name)
        if parts := len(each.findall("part")):
            self.left_out.add("part of an object", name, parts)
        score = self._score(each, name)
        polygon = each.find("polygon")
        box = each.find("bndbox")
        if box is None and (polygon is None or not self.asked.masks):
            raise DataError("it has no <bndbox>")
        corners = [] if box is None else [number(text_of(box, side), side) for side in ("xmin", "ymin", "xmax", "ymax")]
        found = None
        if corners:
            x1, y1, x2, y2 = corners
            found = of_corners(category.id, x1 - 1, y1 - 1, x2, y2, score)
        if mask is not None:
            masked = of_mask(category.id, mask, score, found["bbox"] if found else None)
            if found is None or _fits(mask, found["bbox"]):
                return masked
            self.left_out.add(f"mask of {_INSTANCES} that leaves the box of its object", name)
        if polygon is not None and self.asked.masks:
            points = [number(corner.text or "", corner.tag) - 1 for corner in polygon]
            return of_polygons(category.id, [points], measures, score, masks=True)
        assert found is not None
        return found

    def _score(self, each: Element, name: str) -> float:
        """What CVAT and evsam put into attributes."""
        score = 1.0
        for attribute in each.iterfind("attributes/attribute"):
            if attribute.findtext("name") == "score":
                score = number(text_of(attribute, "value"), "score")
            else:
                self.left_out.add("attribute", name)
        return score


def _fits(mask: Rle, box: Sequence[float]) -> bool:
    """Whether a mask lies in its object's xywh box, or two pixels beside."""
    x, y, w, h = rle.bbox(mask)
    left, top, width, height = box
    inside = left - _BESIDE <= x and x + w <= left + width + _BESIDE
    return inside and top - _BESIDE <= y and y + h <= top + height + _BESIDE


def _encoded(mask: Bool) -> Rle:
    """By its rows alone: an object is small."""
    rows = np.flatnonzero(mask.any(axis=1))
    return rle.from_region(mask[rows[0] : rows[-1] + 1], 0, int(rows[0]), *mask.shape)


def _values(path: Path, most: int) -> tuple[NDArray[Any], int]:
    """H x W: the indices of a palette, or what colours of VOC's palette stand for; and the value of pixels that are
    left open, 0 where there is none, as in 16 bits. most: pixels."""
    try:
        with path.open("rb") as file:
            picture = PngImageFile(needed_of_png(file, most).file, "")
            if picture.mode in ("1", "L", "P", "I", "I;16"):
                deep = picture.mode.startswith("I")
                return np.asarray(picture).astype(np.uint16 if deep else np.uint8), 0 if deep else _BORDER
            colours = np.asarray(picture.convert("RGB")).astype(np.int64)
    except (ImageError, SyntaxError, ValueError, OSError) as error:
        raise DataError(f"{path} is no PNG that can be read: {error}") from error
    bits = colours[..., None] >> np.arange(7, -1, -1) & 1  # H x W x channel x place: see `outputs.png.VOC_PALETTE`
    values: Int64 = (bits << (3 * np.arange(8) + np.arange(3)[:, None])).sum(axis=(2, 3))
    return values, _BORDER
