"""CVAT for images 1.1 (cvat-ai/cvat, docs/manual/advanced/xml_format).

Boxes, polygons and masks. A mask is run lengths of the pixels in its box, along the rows, first those off the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from pipelines import coco, rle
from pipelines.errors import DataError
from pipelines.labels import Asked, Labels
from pipelines.labels.classes import from_labels
from pipelines.labels.instances import LEAST_NUMBERS, image_record, of_box, of_corners, of_mask, of_polygons
from pipelines.labels.left_out import LeftOut
from pipelines.labels.rotated import around
from pipelines.labels.values import class_name, name_below, number, size, whole
from pipelines.labels.xml import attribute, elements
from pipelines.records import InstanceRecord, Record
from pipelines.types import Category

_WHAT = "a CVAT file"
Size = tuple[int, int]


def read(path: Path, asked: Asked) -> Labels:
    """path: a file. See `pipelines.labels`."""
    labels, count = dict[str, None](), 0
    for each in _children(path):
        if each.tag == "track":
            raise DataError(f"{path} has tracks of a video: export it as 'CVAT for images 1.1'")
        if each.tag == "meta":
            labels |= dict.fromkeys((name.text or "").strip() for name in each.iterfind(".//labels/label/name"))
        if each.tag == "image":
            count += 1
            labels |= dict.fromkeys(shape.attrib["label"] for shape in each if "label" in shape.attrib)
    reader = _Reader(path, from_labels(label for label in labels if label), asked.masks, LeftOut())
    return Labels(tuple(reader.categories.values()), reader.records(), count, reader.left_out)


def _children(path: Path) -> Iterator[Element]:
    found = elements(path, _WHAT)
    root = next(found)
    if root.tag != "annotations":
        raise DataError(f"{path} is not {_WHAT}: its root is <{root.tag}>, not <annotations>")
    return found


@dataclass(frozen=True)
class _Reader:
    path: Path
    categories: Mapping[str, Category]
    masks: bool
    left_out: LeftOut

    def records(self) -> Iterator[Record]:
        images = (each for each in _children(self.path) if each.tag == "image")
        for index, image in enumerate(images):
            with coco.named(f"{self.path}: image {index}"):
                yield self._record(image)

    def _record(self, image: Element) -> Record:
        name = name_below("", attribute(image, "name"))
        measures = size(attribute(image, "width"), attribute(image, "height"))
        instances = []
        for index, shape in enumerate(image):
            with coco.named(f"<{shape.tag}> {index}"):
                kind = _KINDS.get(shape.tag)
                if kind is None:
                    self.left_out.add("tag of an image" if shape.tag == "tag" else _article(shape.tag), name)
                    continue
                category = self.categories[class_name(attribute(shape, "label"))]
                instances.append(self._scored(shape, kind(self, shape, category.id, measures, name), name))
        return image_record(name, measures, instances)

    def _scored(self, shape: Element, found: InstanceRecord, name: str) -> InstanceRecord:
        """With what attributes say of its scores."""
        if shape.attrib.get("occluded") == "1":
            self.left_out.add("flag 'occluded'", name)
        for each in shape.iterfind("attribute"):
            key, text = each.attrib.get("name", ""), (each.text or "").strip()
            if key == "score":
                found["score"] = number(text, key)
            elif key == "predicted_iou":
                found["predicted_iou"] = number(text, key)
            elif key == "stability_score":
                found["stability_score"] = number(text, key)
            else:
                self.left_out.add("attribute", name)
        return found

    def box(self, shape: Element, id: int, measures: Size, name: str) -> InstanceRecord:
        corners = [number(attribute(shape, side), side) for side in ("xtl", "ytl", "xbr", "ybr")]
        angle = number(shape.attrib.get("rotation", "0"), "rotation")
        if angle % 360:
            self.left_out.add("box that is rotated", name, read="read as the upright box around it")
            x1, y1, x2, y2 = corners
            return of_box(id, around(((x1 + x2) / 2, (y1 + y2) / 2), x2 - x1, y2 - y1, angle))
        return of_corners(id, *corners)

    def polygon(self, shape: Element, id: int, measures: Size, name: str) -> InstanceRecord:
        text = attribute(shape, "points").replace(";", ",")
        points = [number(value, "a coordinate") for value in text.split(",") if value.strip()]
        if len(points) < LEAST_NUMBERS:
            raise DataError("it has fewer than three corners")
        return of_polygons(id, [points], measures, masks=self.masks)

    def mask(self, shape: Element, id: int, measures: Size, name: str) -> InstanceRecord:
        left, top, w, h = (whole(attribute(shape, side), side) for side in ("left", "top", "width", "height"))
        width, height = measures
        if left + w > width or top + h > height:
            raise DataError(f"it is {w} x {h} from {left}, {top}, and leaves its image of {width} x {height}")
        if not self.masks:
            return of_box(id, (left, top, w, h))
        runs = [whole(run, "a run length") for run in attribute(shape, "rle").split(",")]
        if sum(runs) != w * h:
            raise DataError(f"its run lengths do not fill {w} x {h} pixels")
        pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(h, w)
        return of_mask(id, rle.from_region(pixels, left, top, height, width))


def _article(tag: str) -> str:
    return {"polyline": "line", "points": "set of points"}.get(tag, tag)


_KINDS: Mapping[str, Callable[[_Reader, Element, int, Size, str], InstanceRecord]] = {
    "box": _Reader.box,
    "polygon": _Reader.polygon,
    "mask": _Reader.mask,
}
