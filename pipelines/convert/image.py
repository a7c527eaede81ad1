"""Records as outputs take them: an image, and its instances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines import rle
from pipelines.boxes import to_xyxy
from pipelines.convert.source import Source
from pipelines.errors import ImageError
from pipelines.images.annotated import load_annotated
from pipelines.images.sources import ImageSource
from pipelines.records import Record
from pipelines.types import Clicks, Detections, Image, Instances, Masks

_BLACK = np.zeros((1, 1, 3), np.uint8)


def masked(record: Record) -> Record:
    """Of its objects those that have a mask."""
    return replace(record, instances=tuple(each for each in record.instances if "segmentation" in each))


def blank(record: Record) -> Image:
    """An image of the record's name and size, black, which takes no memory."""
    return Image(record.name, np.broadcast_to(_BLACK, (record.height, record.width, 3)), frame=record.frame)


def photo(record: Record, place: ImageSource, source: Source) -> Image:
    """The photograph of a record. Raises ImageError where it cannot be read, or is of another size."""
    frame = record.frame or ("upright" if source.labels.frame == "upright" else None)
    image = load_annotated(place, frame, (record.width, record.height), source.path.name)
    if (image.width, image.height) != (record.width, record.height):
        sizes = f"{image.width} x {image.height}, but its labels are for {record.width} x {record.height}"
        raise ImageError(f"the photo is {sizes}")
    return image


def instances_of(record: Record) -> Instances:
    """What outputs are made of. What the record does not say of scores of masks is 1, and `Instances.read` says so."""
    rows = record.instances
    boxes = to_xyxy([row["bbox"] for row in rows], "xywh", width=1, height=1, allow_empty=True)
    found = Detections(
        boxes,
        np.array([row["score"] for row in rows], np.float32),
        np.array([row["category_id"] for row in rows], np.int64),
        reason=record.reason,
    )
    if rows and not any("segmentation" in row for row in rows):
        return Instances(found, masks=None, read=rows)
    nothing = rle.from_runs([record.height * record.width], record.height, record.width)
    masks = Masks(
        tuple(row.get("segmentation", nothing) for row in rows),
        np.array([row.get("predicted_iou", 1) for row in rows], np.float32),
        np.array([row.get("stability_score", 1) for row in rows], np.float32),
    )
    return Instances(found, masks, clicks=_clicks(record), read=rows)


def _clicks(record: Record) -> Clicks | None:
    rows = record.instances
    if not rows or not all("point" in row and "crop_box" in row for row in rows):
        return None
    crops = to_xyxy([row["crop_box"] for row in rows], "xywh", width=1, height=1, allow_empty=True)
    return Clicks(np.array([row["point"] for row in rows], np.float32), crops)
