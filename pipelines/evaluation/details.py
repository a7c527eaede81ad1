"""What a score is made of, image by image, in one small file beside it: `details.npz`.

It is enough to weigh the images anew, so that two runs can be compared without the annotations or the masks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.detection import IOU_THRESHOLDS
from pipelines.evaluation.matching import Matches
from pipelines.evaluation.miou import SIZES
from pipelines.evaluation.predictions import Float64
from pipelines.evaluation.protocols import Protocol
from pipelines.evaluation.score import Scored
from pipelines.evaluation.weighted_ap import mean_ap, weighted_ap
from pipelines.files import replacing
from pipelines.types import Bool, Int64


@dataclass(frozen=True)
class ObjectDetails:
    """image_ids: I int64, the images scored; images: N int64, each object's place there; ious, boundary_ious:
    N float64, 0 to 1; sizes: N x 4 bool, by `SIZES`.
    """

    image_ids: Int64
    images: Int64
    ious: Float64
    boundary_ious: Float64
    sizes: Bool

    def metrics(self, weights: Float64) -> dict[str, Float64]:
        """name -> B: mIoU, 0 to 100, when image i weighs weights[b, i]; NaN where no object has weight."""
        found = {}
        for family, values in {"mIoU": self.ious, "boundary mIoU": self.boundary_ious}.items():
            for index, size in enumerate(SIZES):
                chosen = self.sizes[:, index]
                mine = weights[:, self.images[chosen]]
                with np.errstate(invalid="ignore"):
                    found[f"{family} {size}"] = 100 * (mine @ values[chosen]) / mine.sum(1)
        return found


@dataclass(frozen=True)
class DetectionDetails:
    """image_ids: I int64, the images scored, in the order of the matches; kind: "segm" or "bbox"."""

    image_ids: Int64
    matches: Matches
    kind: str

    def metrics(self, weights: Float64) -> dict[str, Float64]:
        """name -> B: AP, 0 to 1, when image i weighs weights[b, i]; NaN where no object has weight."""
        ap = weighted_ap(self.matches, weights)
        parts = {"AP": ap, "AP50": ap[:, :, :1], "AP75": ap[:, :, 5:6]}
        return {f"{self.kind} {name}": mean_ap(part) for name, part in parts.items()}


Details = ObjectDetails | DetectionDetails
_ARRAYS = {
    **dict.fromkeys(("image_ids", "images", "rows", "classes", "object_images", "object_classes"), ("i", 1)),
    **dict.fromkeys(("ious", "boundary_ious", "scores"), ("f", 1)),
    **{"sizes": ("b", 2), "ignored": ("b", 2), "counted": ("b", 1), "found": ("i", 2)},
    **{"image_count": ("i", 0), "kind": ("U", 0)},
}
"""Of each array of the file its kind of dtype and its dimensions."""


def details_of(truth: GroundTruth, scored: Scored, protocol: Protocol) -> Details:
    """The details of a score against `truth`."""
    image_ids = np.array(sorted(truth.images), np.int64)
    if scored.matches is not None:
        return DetectionDetails(image_ids, scored.matches, next(iter(scored.metrics)))
    sizes = [("all", *protocol.sizes(one.object.area)) for one in scored.objects]
    return ObjectDetails(
        image_ids,
        np.searchsorted(image_ids, [one.image_id for one in scored.objects]),
        np.array([one.iou for one in scored.objects], np.float64),
        np.array([one.boundary_iou for one in scored.objects], np.float64),
        np.array([[size in mine for size in SIZES] for mine in sizes], bool).reshape(-1, len(SIZES)),
    )


def save_details(path: Path, details: Details) -> None:
    """Write an .npz file."""
    if isinstance(details, ObjectDetails):
        arrays = {field.name: getattr(details, field.name) for field in fields(details)}
    else:
        arrays = {field.name: np.asarray(getattr(details.matches, field.name)) for field in fields(Matches)}
        arrays |= {"image_ids": details.image_ids, "kind": np.array(details.kind)}
        arrays["found"] = arrays["found"].astype(np.int32)
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def load_details(path: Path) -> Details:
    """Read what `save_details` wrote. Raises DataError when the file is missing or damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays: dict[str, Any] = {name: file[name] for name in file.files}
        for name, array in arrays.items():
            if (array.dtype.kind, array.ndim) != _ARRAYS[name]:
                raise ValueError(f"{name} is {array.dtype} {array.shape}")
        details = _details_from(arrays)
        _check_lengths(details)
    except Exception as error:  # a stranger's file can break anywhere in NumPy and in zipfile
        raise DataError(f"{path} is missing or damaged: score the run again with `evsam evaluate`") from error
    return details


def _details_from(arrays: dict[str, Any]) -> Details:
    if "kind" not in arrays:
        return ObjectDetails(**arrays)
    image_ids, kind = arrays.pop("image_ids"), str(arrays.pop("kind"))
    return DetectionDetails(image_ids, Matches(**{**arrays, "image_count": int(arrays["image_count"])}), kind)


def _check_lengths(details: Details) -> None:
    """Raise ValueError when columns that belong together are not equally long, or name images that are not there."""
    if isinstance(details, ObjectDetails):
        together: list[tuple[NDArray[Any], ...]] = [
            (details.images, details.ious, details.boundary_ious, details.sizes)
        ]
        fits = details.sizes.shape[1:] == (len(SIZES),)
    else:
        found = details.matches
        together = [(found.images, found.rows, found.classes, found.scores, found.found, found.ignored)]
        together += [(found.object_images, found.object_classes, found.counted)]
        shapes = {found.found.shape[1:], found.ignored.shape[1:]}
        fits = shapes == {(len(IOU_THRESHOLDS),)} and found.image_count == len(details.image_ids)
        fits &= bool((found.found < len(found.object_images)).all()) and details.kind in ("segm", "bbox")
    for images, *columns in together:
        fits &= all(len(column) == len(images) for column in columns)
        fits &= bool(((images >= 0) & (images < len(details.image_ids))).all())
    if not fits:
        raise ValueError("its columns do not fit together")
