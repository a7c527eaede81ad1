"""What travels between the stages. Every value is frozen, and checked once, here: its shapes, which our own code must
get right (ValueError), and that a network's numbers are finite (ImageError).

Boxes are xyxy float32 in pixels of the original image, x to the right and y down; a box covers
x1 <= x < x2, y1 <= y < y2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ImageError

if TYPE_CHECKING:
    from pipelines.records import InstanceRecord

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]


class Rle(TypedDict):
    """COCO's compressed run-length encoding of one mask: size [height, width], counts as ASCII text."""

    size: list[int]
    counts: str


def _check(name: str, array: NDArray[Any], dtype: type, shape: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if array.dtype != dtype or not fits:
        wanted = " x ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: expected {np.dtype(dtype)} of shape {wanted}, got {array.dtype} {array.shape}")


Frame = Literal["stored", "upright"]
"""How the pixels of a photo that EXIF turns are counted."""


def check_finite(what: str, finite: bool) -> None:
    """Raise ImageError when not all of what a network has answered are numbers that can be used."""
    if not finite:
        raise ImageError(f"{what} is not a finite number: are the weights whole, and is the precision high enough?")


def _check_finite(name: str, array: Float32) -> None:
    check_finite(f"one of the {name}", bool(np.isfinite(array).all()))


@dataclass(frozen=True)
class Image:
    """One decoded photograph. name: its unique key within a run; pixels: H x W x 3 uint8, RGB, upright.

    notes: what the user should know of how it was read, each a sentence that does not name the image.
    orientation: the file's EXIF orientation, 1 to 8; where it is not 1, pixels as they are stored are turned.
    frame: which of the two its pixels are; None where both are the same.
    """

    name: str
    pixels: UInt8
    notes: tuple[str, ...] = ()
    orientation: int = 1
    frame: Frame | None = None

    def __post_init__(self) -> None:
        _check("pixels", self.pixels, np.uint8, (None, None, 3))

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])


@dataclass(frozen=True)
class Category:
    """A class of object: the id written to files (COCO's own ids for COCO's 80 classes) and its name."""

    id: int
    name: str


@dataclass(frozen=True)
class Detections:
    """N boxes of one image. boxes: N x 4 float32 xyxy; scores: N float32; category_ids: N int64; notes: as an image's,
    of how the boxes were come by.

    reason: why there are none, where there are none: what was dropped by which rule, and the option that changes it.
    """

    boxes: Float32
    scores: Float32
    category_ids: Int64
    notes: tuple[str, ...] = ()
    reason: str | None = None

    def __post_init__(self) -> None:
        _check("boxes", self.boxes, np.float32, (None, 4))
        _check("scores", self.scores, np.float32, (len(self.boxes),))
        _check_finite("boxes found", self.boxes)
        _check_finite("scores of the boxes", self.scores)
        _check("category_ids", self.category_ids, np.int64, (len(self.boxes),))

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: Int64 | Bool) -> Detections:
        """Those at `index`, in its order, or where it is true."""
        return replace(self, boxes=self.boxes[index], scores=self.scores[index], category_ids=self.category_ids[index])

    @classmethod
    def empty(cls, reason: str | None = None) -> Detections:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), reason=reason)


@dataclass(frozen=True)
class Points:
    """One object named by clicks. points: P x 2 float32 (x, y) pixels; labels: P int64, 1 = on it, 0 = off it."""

    points: Float32
    labels: Int64

    def __post_init__(self) -> None:
        _check("points", self.points, np.float32, (None, 2))
        _check("labels", self.labels, np.int64, (len(self.points),))


@dataclass(frozen=True)
class Masks:
    """N masks as SAM gives them. rles: full-size masks; predicted_iou, stability_score: N float32, 0 to 1."""

    rles: tuple[Rle, ...]
    predicted_iou: Float32
    stability_score: Float32

    def __post_init__(self) -> None:
        _check("predicted_iou", self.predicted_iou, np.float32, (len(self.rles),))
        _check("stability_score", self.stability_score, np.float32, (len(self.rles),))
        _check_finite("predicted IoUs", self.predicted_iou)
        _check_finite("stability scores", self.stability_score)

    def __len__(self) -> int:
        return len(self.rles)


@dataclass(frozen=True)
class Clicks:
    """How each of N masks was come by when all of an image was segmented.

    points: N x 2 float32 (x, y) pixels, the click; crop_boxes: N x 4 float32 xyxy, the part of the image asked in.
    """

    points: Float32
    crop_boxes: Float32

    def __post_init__(self) -> None:
        _check("points", self.points, np.float32, (None, 2))
        _check("crop_boxes", self.crop_boxes, np.float32, (len(self.points), 4))
        _check_finite("clicks", self.points)
        _check_finite("crops", self.crop_boxes)

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Instances:
    """One image's result: detection i was given mask i; masks is None when only boxes were asked for.

    clicks: those that gave them, when all of the image was segmented. edges: H x W uint8, the probability of an
    edge in each pixel, 255 for 1, when it was asked for. read: what is known of each, where they were read from a file,
    which may lack some scores and, of some objects, the mask, which is then without pixels here.
    """

    detections: Detections
    masks: Masks | None
    clicks: Clicks | None = None
    edges: UInt8 | None = None
    read: tuple[InstanceRecord, ...] | None = None

    def __post_init__(self) -> None:
        if self.masks is not None and len(self.detections) != len(self.masks):
            raise ValueError(f"{len(self.detections)} detections but {len(self.masks)} masks")
        if self.clicks is not None and len(self.clicks) != len(self.detections):
            raise ValueError(f"{len(self.detections)} detections but {len(self.clicks)} clicks")
        if self.edges is not None:
            _check("edges", self.edges, np.uint8, (None, None))

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def rles(self) -> tuple[Rle, ...]:
        """The full-size masks, none when only boxes were asked for."""
        return () if self.masks is None else self.masks.rles

    @classmethod
    def empty(cls, detections: Detections) -> Instances:
        """Of an image without boxes, of which `detections` says why."""
        none = np.zeros(0, np.float32)
        return cls(detections, Masks((), none, none))
