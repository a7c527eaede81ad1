"""One JSON line per image: what a run knows of it. The journal, every results file and `evaluate` read these."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict, get_args

from pipelines import rle
from pipelines.boxes import xyxy_to_xywh
from pipelines.errors import ImageError
from pipelines.files import to_json
from pipelines.types import Frame, Image, Instances, Rle

Status = Literal["done", "empty", "failed"]


class InstanceRecord(TypedDict):
    """bbox: xywh pixels. score: the detector's. predicted_iou and stability_score: SAM's.

    What tells of the mask is absent when only boxes were asked for.

    point (x, y) and crop_box (xywh), in pixels: the click that gave it, when all of the image was segmented.
    """

    category_id: int
    bbox: list[float]
    score: float
    predicted_iou: NotRequired[float]
    stability_score: NotRequired[float]
    area: NotRequired[int]
    segmentation: NotRequired[Rle]
    point: NotRequired[list[float]]
    crop_box: NotRequired[list[float]]


@dataclass(frozen=True)
class Record:
    """One image's outcome. name: its unique key (a relative POSIX path); reason: why it failed or is empty, else None;
    notes: what the user should know of how it was read, and of how its boxes were come by; frame: see `Image`.

    width and height are pixels in that frame, 0 when it could not be read. `empty` means that the image
    was searched and holds nothing, which is not the same as not having been processed.
    """

    name: str
    image_id: int
    width: int
    height: int
    status: Status
    reason: str | None = None
    instances: tuple[InstanceRecord, ...] = ()
    notes: tuple[str, ...] = ()
    frame: Frame | None = None

    def to_line(self) -> str:
        """One line of JSON, without the line end; equal records give equal lines."""
        fields = {key: value for key, value in self.__dict__.items() if key != "frame"}
        return to_json({**fields, **self.said_frame()}, separators=(",", ":"))

    def said_frame(self) -> dict[str, str]:
        """What is said of the frame wherever the image is named, see `pipelines.frames`: nothing for most."""
        return {} if self.frame is None else {"frame": self.frame}

    @classmethod
    def from_line(cls, line: str) -> Record:
        """Inverse of `to_line`. Raises ValueError when the line is not a whole record."""
        try:
            fields = json.loads(line, parse_constant=_refuse)
            record = cls(**{**fields, "instances": tuple(fields["instances"]), "notes": tuple(fields.get("notes", ()))})
            fits = all(isinstance(getattr(record, name), kind) for name, kind in _KINDS.items())
            fits &= record.status in get_args(Status)
            fits &= all({"category_id", "bbox", "score"} <= instance.keys() for instance in record.instances)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            fits = False
        if not fits:
            raise ValueError(f"not an image record: {line[:80]!r}")
        return record


_KINDS = {
    "name": str,
    "image_id": int,
    "width": int,
    "height": int,
    "status": str,
    "reason": str | None,
    "frame": str | None,
}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def instance_records(instances: Instances) -> tuple[InstanceRecord, ...]:
    """Rows for `Record.instances`. Floats keep the digits that float32 boxes can hold."""
    if instances.read is not None:
        return instances.read
    detections, masks = instances.detections, instances.masks
    rows = tuple(
        InstanceRecord(
            category_id=int(category),
            bbox=[round(float(value), 3) for value in box],
            score=round(float(score), 6),
        )
        for category, box, score in zip(
            detections.category_ids, xyxy_to_xywh(detections.boxes), detections.scores, strict=True
        )
    )
    if masks is None:
        return rows
    for row, iou, stability, mask in zip(rows, masks.predicted_iou, masks.stability_score, masks.rles, strict=True):
        row["predicted_iou"] = round(float(iou), 6)
        row["stability_score"] = round(float(stability), 6)
        row["area"] = rle.area(mask)
        row["segmentation"] = mask
    if instances.clicks is not None:
        crops = xyxy_to_xywh(instances.clicks.crop_boxes)
        for row, point, crop in zip(rows, instances.clicks.points, crops, strict=True):
            row["point"] = [round(float(value), 3) for value in point]
            row["crop_box"] = [round(float(value), 3) for value in crop]
    return rows


def image_record(name: str, image_id: int, image: Image | ImageError, result: Instances | ImageError) -> Record:
    """What became of an image. image: it, or why it could not be read; result: what a job made of it."""
    if isinstance(image, ImageError):
        return Record(name, image_id, 0, 0, "failed", str(image))
    size = (image.width, image.height)
    if isinstance(result, ImageError):
        return Record(name, image_id, *size, "failed", str(result))
    rows, found = instance_records(result), result.detections
    status: Status = "done" if rows else "empty"
    return Record(name, image_id, *size, status, found.reason, rows, (*image.notes, *found.notes), image.frame)
