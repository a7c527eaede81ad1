"""Plain mistakes in what is scored, as far as the data themselves show them: images, boxes or classes counted otherwise
than in the truth. Such predictions score next to nothing, and nothing else says why. The score is left as it is.

Each row of the tables is another way to count. When hardly any box covers an object, the boxes are read in each of
these ways, and one that makes many of them cover an object is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.numbering import NUMBERINGS
from pipelines.evaluation.predictions import Float64, Predictions
from pipelines.types import Bool, Int64

_HARDLY, _MANY, _TIMES = 0.2, 0.25, 4
"""Shares of boxes that cover an object: below the first one looks for a mistake, which must give the second, and so
many times as many as before."""
_OVERLAP = 0.5
_IMAGES = 300
"""Images whose boxes are read in other ways, where there are more: enough to see a mistake."""
_OUTSIDE = 0.05
"""How far, over the image's side, a box may reach out of its image, and how many of all may reach farther."""

_FORMATS: Mapping[str, Callable[[Float64], Float64]] = {
    "x1, y1, x2, y2": lambda b: np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1),
    "y1, x1, y2, x2": lambda b: np.concatenate([b[:, 1::-1], b[:, :1:-1] - b[:, 1::-1]], 1),
    "y, x, height, width": lambda b: b[:, [1, 0, 3, 2]],
    "centre, width and height": lambda b: np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, 2:]], 1),
    "x, y, width and height": lambda b: b,
}
"""What the numbers of a box may be -> x, y, width and height."""


def plain_mistakes(of: str, truth: GroundTruth, predictions: Predictions, *, agnostic: bool) -> list[str]:
    """A sentence for each. of: whose predictions they are, for the sentences; agnostic: classes mean nothing."""
    sample = predictions.take(_of_some_images(predictions))
    return [*_outside(of, truth, predictions), *_counted_otherwise(of, truth, sample, agnostic)]


def _counted_otherwise(of: str, truth: GroundTruth, predictions: Predictions, agnostic: bool) -> list[str]:
    before = _covering(truth, predictions, agnostic)
    if not before.asked or before.found >= _HARDLY * before.asked:
        return []
    said = (
        f"{of}: {before.found} of {before.asked} of its best boxes cover an object of their image"
        f"{'' if agnostic else ' and class'} by half"
    )
    what, after = max(_otherwise(truth, predictions, agnostic), key=lambda way: way[1].found)
    if after.found >= max(_MANY * before.asked, _TIMES * before.found):
        return [f"{said}, but {after.found} of {after.asked} would if {what}: the score is that of the file as it is"]
    return [] if before.found else [f"{said}: are these predictions for {truth.path.name}?"]


def _otherwise(truth: GroundTruth, predictions: Predictions, agnostic: bool) -> Iterator[tuple[str, _Covering]]:
    """Each other way to count, and what comes of it."""
    by_id = sorted(truth.images)
    by_name = [id for _, id in sorted((image.name, id) for id, image in truth.images.items())]
    for what, numbers in NUMBERINGS.items():
        for ordered in (by_id, by_name):
            changed = replace(predictions, image_ids=numbers(predictions.image_ids, ordered))
            yield f"its image ids were {what}", _covering(truth, changed, agnostic)
    sizes = _sizes(truth, predictions)
    for what, read in _FORMATS.items():
        for scale, shares in ((1, ""), (sizes, ", as shares of the image")):
            changed = replace(predictions, boxes=read(predictions.boxes * scale))
            yield f"its boxes were {what}{shares}", _covering(truth, changed, agnostic)
    if agnostic:
        return
    categories = sorted(category.id for category in truth.categories)
    for what, numbers in NUMBERINGS.items():
        changed = replace(predictions, category_ids=numbers(predictions.category_ids, categories))
        yield f"its category ids were {what}", _covering(truth, changed, agnostic)
    yield "classes did not count", _covering(truth, predictions, agnostic=True)


@dataclass(frozen=True)
class _Covering:
    """found of asked boxes cover an object."""

    found: int
    asked: int


def _covering(truth: GroundTruth, predictions: Predictions, agnostic: bool) -> _Covering:
    """How many boxes cover an object of their image and class by half: of each image the best, as many as it has
    objects."""
    found = asked = 0
    for image_id, rows in predictions.by_image().items():
        objects = truth.objects.get(image_id, ())
        best = rows[: len(objects)]
        if len(best):
            overlaps = _overlaps(predictions.boxes[best], np.array([one.bbox for one in objects], np.float64))
            if not agnostic:
                classes = np.array([one.category_id for one in objects], np.int64)
                overlaps[predictions.category_ids[best][:, None] != classes] = 0
            found += int((overlaps.max(1) >= _OVERLAP).sum())
            asked += len(best)
    return _Covering(found, asked)


def _of_some_images(predictions: Predictions) -> Int64:
    """Rows of images from all over the file."""
    ids = np.unique(predictions.image_ids)
    return np.flatnonzero(np.isin(predictions.image_ids, ids[:: max(1, -(-len(ids) // _IMAGES))]))


def _overlaps(found: Float64, wanted: Float64) -> Float64:
    """IoU of N x 4 with M x 4 xywh boxes: N x M."""
    low = np.maximum(found[:, None, :2], wanted[:, :2])
    high = np.minimum(found[:, None, :2] + found[:, None, 2:], wanted[:, :2] + wanted[:, 2:])
    shared = (high - low).clip(0).prod(2)
    union = found[:, 2:].clip(0).prod(1)[:, None] + wanted[:, 2:].clip(0).prod(1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float64)


def _outside(of: str, truth: GroundTruth, predictions: Predictions) -> list[str]:
    far = _reaching_out(truth, predictions)
    if int(far.sum()) <= _OUTSIDE * len(far):
        return []
    row = int(np.argmax(far))
    image = truth.images[int(predictions.image_ids[row])]
    numbers = ", ".join(f"{value:g}" for value in predictions.boxes[row])
    example = f"such as {numbers} in {image.name}, {image.width} x {image.height}"
    return [f"{of}: {far.sum()} of its {len(far)} boxes reach far out of their images, {example}"]


def _reaching_out(truth: GroundTruth, predictions: Predictions) -> Bool:
    sizes, boxes = _sizes(truth, predictions)[:, :2], predictions.boxes
    margin = np.maximum(2, _OUTSIDE * sizes)
    out = (boxes[:, :2] < -margin) | (boxes[:, :2] + boxes[:, 2:] > sizes + margin)
    return np.asarray(out.any(1), np.bool_)


def _sizes(truth: GroundTruth, predictions: Predictions) -> Float64:
    """Width, height, width and height of each box's image: N x 4."""
    ids, inverse = np.unique(predictions.image_ids, return_inverse=True)
    images = [truth.images[id] for id in ids.tolist()]
    return np.array([[image.width, image.height] * 2 for image in images], np.float64).reshape(-1, 4)[inverse]
