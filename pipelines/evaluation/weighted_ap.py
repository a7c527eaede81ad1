"""AP from matches, with a weight per image: for resampling images without matching anything again."""

from __future__ import annotations

import numpy as np

from pipelines.evaluation.detection import RECALLS
from pipelines.evaluation.matching import Matches
from pipelines.evaluation.predictions import Float64
from pipelines.types import Int64


def weighted_ap(matches: Matches, weights: Float64 | None = None) -> Float64:
    """AP for each of B weightings of the images, by class and threshold: B x K x T float64, 0 to 1.

    weights: B x images; an image of weight 2 counts as if it were there twice, one of weight 0 as if it were not.
    None: one weighting, all 1, which gives COCO's AP. K: the classes in ascending order; NaN where a class has no
    object of positive weight.
    """
    weights = np.ones((1, matches.image_count)) if weights is None else weights
    classes = np.unique(matches.object_classes[matches.counted])
    result = np.full((len(weights), len(classes), matches.found.shape[1]), np.nan)
    for place, category in enumerate(classes):
        wanted = weights[:, matches.object_images[matches.counted & (matches.object_classes == category)]].sum(1)
        result[wanted > 0, place] = _class_ap(matches, int(category), weights[wanted > 0], wanted[wanted > 0])
    return result


def mean_ap(by_class: Float64) -> Float64:
    """B x K x T with NaN -> B: the mean over classes that have objects, NaN where none has."""
    counted = ~np.isnan(by_class)
    total = counted.sum((1, 2))
    return np.where(total > 0, np.where(counted, by_class, 0).sum((1, 2)) / np.maximum(total, 1), np.nan)


def _class_ap(matches: Matches, category: int, weights: Float64, wanted: Float64) -> Float64:
    """B x T. wanted: B, the weight of all objects of the class."""
    mine = np.flatnonzero(matches.classes == category)
    mine = mine[np.argsort(-matches.scores[mine], kind="stable")]
    found, ignored = matches.found[mine] >= 0, matches.ignored[mine]
    last = np.flatnonzero((found & ~ignored).any(1))
    mine = mine[: last[-1] + 1 if len(last) else 0]  # wrong detections after the last right one change nothing
    images = matches.images[mine]
    seen = weights[:, images].cumsum(1)  # B x D: the weight of all detections so far
    result = np.zeros((len(weights), found.shape[1]))
    for threshold in range(found.shape[1]):
        passed, skipped = found[: len(mine), threshold], ignored[: len(mine), threshold]
        right, skip = np.flatnonzero(passed & ~skipped), np.flatnonzero(skipped)
        if len(right):
            below = _sums_before(weights[:, images[skip]], np.searchsorted(skip, right))
            hits = weights[:, images[right]].cumsum(1)
            result[:, threshold] = _area(hits, seen[:, right] - below, wanted)
    return result


def _sums_before(values: Float64, stops: Int64) -> Float64:
    """B x N -> B x len(stops): the sum of the first `stop` values."""
    sums = np.concatenate([np.zeros((len(values), 1)), values.cumsum(1)], axis=1)
    return sums[:, stops]


def _area(hits: Float64, seen: Float64, wanted: Float64) -> Float64:
    """COCO's 101-point area under the curve, at its right detections: B x N weights -> B.

    Between two right detections precision only falls, so they hold the curve's envelope. Each carries the recall
    levels that it is the first to reach.
    """
    precision = hits / (seen + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    levels = np.searchsorted(RECALLS, hits / wanted[:, None], side="right")
    area: Float64 = (np.diff(levels, axis=1, prepend=0) * envelope).sum(1) / len(RECALLS)
    return area
