"""Instances as records hold them, of what a format has: a box, polygons or a mask.

Where boxes alone are asked for, masks and polygons give theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines import coco, polygons, rle
from pipelines.errors import DataError
from pipelines.records import InstanceRecord, Record, Status
from pipelines.types import Frame, Rle

Polygon = Sequence[float]
"""x and y in turn, pixels."""
LEAST_NUMBERS = 6
"""Numbers of a polygon that covers something."""


def of_box(category_id: int, xywh: Sequence[float], score: float = 1.0) -> InstanceRecord:
    """xywh: pixels, already checked to be finite."""
    if xywh[2] < 0 or xywh[3] < 0:
        raise DataError("its box is upside down: its width or height is below 0")
    return InstanceRecord(category_id=category_id, bbox=list(map(float, xywh)), score=score)


def of_corners(category_id: int, x1: float, y1: float, x2: float, y2: float, score: float = 1.0) -> InstanceRecord:
    """A box by two corners, in whatever order they are."""
    left, top = min(x1, x2), min(y1, y2)
    return of_box(category_id, (left, top, max(x1, x2) - left, max(y1, y2) - top), score)


def of_mask(category_id: int, mask: Rle, score: float = 1.0, box: Sequence[float] | None = None) -> InstanceRecord:
    """box: xywh pixels, None for the mask's own."""
    found = of_box(category_id, rle.bbox(mask) if box is None else box, score)
    return {**found, "area": rle.area(mask), "segmentation": mask}


def of_polygons(
    category_id: int, parts: Sequence[Polygon], size: tuple[int, int], score: float = 1.0, *, masks: bool
) -> InstanceRecord:
    """The union of polygons, each of three corners or more, in an image of size (width, height)."""
    check_polygons(parts)
    xs, ys = [x for part in parts for x in part[0::2]], [y for part in parts for y in part[1::2]]
    box = of_corners(category_id, min(xs), min(ys), max(xs), max(ys), score)
    if not masks:
        return box
    width, height = size
    return of_mask(category_id, polygons.draw(parts, height, width), score, box["bbox"])


def check_polygons(parts: Sequence[Polygon]) -> None:
    """Numbers in pairs, finite and not too large."""
    for part in parts:
        if len(part) % 2:
            raise DataError(f"its polygon has {len(part)} numbers, not x and y in turn")
        if not coco.are_numbers(part):
            coco.check_numbers(part, "its polygon has a corner at")


def image_record(
    name: str,
    size: tuple[int, int],
    instances: Sequence[InstanceRecord],
    *,
    image_id: int = 0,
    frame: Frame | None = None,
) -> Record:
    """size: (width, height)."""
    status: Status = "done" if instances else "empty"
    reason = None if instances else "nothing in it is labelled"
    return Record(name, image_id, *size, status, reason, tuple(instances), frame=frame)


def union(parts: Sequence[InstanceRecord]) -> InstanceRecord:
    """One instance of the parts of an object, with the first one's category and score. Where some have masks, boxes
    that have none count as far as its box alone."""
    if len(parts) == 1:
        return parts[0]
    corners = [(x, y, x + w, y + h) for x, y, w, h in (part["bbox"] for part in parts)]
    lefts, tops, rights, bottoms = zip(*corners, strict=True)
    first = parts[0]
    box = of_corners(first["category_id"], min(lefts), min(tops), max(rights), max(bottoms), first["score"])
    masks = [part["segmentation"] for part in parts if "segmentation" in part]
    return of_mask(box["category_id"], rle.union(masks), box["score"], box["bbox"]) if masks else box
