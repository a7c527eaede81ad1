"""How well one mask per annotated object fits it: mean IoU by size, of masks and of their outlines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import hotcoco

from pipelines.errors import DataError
from pipelines.evaluation.annotations import GroundTruth, TruthObject
from pipelines.evaluation.boundary import boundary
from pipelines.evaluation.protocols import Protocol
from pipelines.records import Record
from pipelines.types import Rle

SIZES = ("all", "large", "medium", "small")


@dataclass(frozen=True)
class ObjectScore:
    """One annotated object and the mask it was given. iou, boundary_iou: 0 to 1; boundary_iou: None if not measured."""

    image_id: int
    object: TruthObject
    mask: Rle
    iou: float
    boundary_iou: float | None = None


def iou(mask: Rle, truth: Rle, epsilon: float = 0) -> float:
    """|A & B| / (|A | B| + epsilon), 0 to 1; 0 for two masks without pixels."""
    both = hotcoco.mask.area(hotcoco.mask.merge([dict(mask), dict(truth)], intersect=True))
    either = hotcoco.mask.area(dict(mask)) + hotcoco.mask.area(dict(truth)) - both
    return both / (either + epsilon) if either else 0.0


def score_objects(truth: GroundTruth, records: Iterable[Record], protocol: Protocol) -> Iterator[ObjectScore]:
    """Every object with a mask that the protocol counts, with the mask of its record.

    records: of runs prompted by the truth, whose instance i is for the image's object i; an image that failed gives
    each of its objects an empty mask. Raises DataError when an image has no record, or other objects than masks.
    """
    by_image = {record.image_id: record for record in records}
    for image_id, image in truth.images.items():
        objects = truth.objects[image_id]
        record = by_image.get(image_id)
        masks = [image.empty_mask] * len(objects)
        if record is None:
            raise DataError(f"image {image_id} has no record: its run has not finished, or another one deleted it")
        if record.status != "failed":
            masks = [instance["segmentation"] for instance in record.instances]
        if len(masks) != len(objects):
            raise DataError(
                f"image {image_id} has {len(objects)} objects but {len(masks)} masks: the annotations have changed"
            )
        for found, mask in zip(objects, masks, strict=True):
            if found.masked and found.area >= protocol.min_area and (protocol.crowds or not found.crowd):
                bands = boundary(mask), boundary(found.rle)
                yield ObjectScore(
                    image_id,
                    found,
                    mask,
                    iou(mask, found.rle, protocol.epsilon),
                    iou(*bands, protocol.epsilon),
                )


def mean_iou(objects: Sequence[ObjectScore], protocol: Protocol, size: str, *, boundary: bool = False) -> float | None:
    """The mean over objects of one of `SIZES`, 0 to 100; None where there are none."""
    counted = [
        (scored.boundary_iou if boundary else scored.iou) or 0.0
        for scored in objects
        if size == "all" or size in protocol.sizes(scored.object.area)
    ]
    return 100 * sum(counted) / len(counted) if counted else None
