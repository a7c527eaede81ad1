"""Is one run better than another, or is it the choice of images? A paired bootstrap over images.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile intervals): images are drawn
again with replacement, the same for both runs, and the difference of the scores is taken each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.errors import UsageError
from pipelines.evaluation.details import Details
from pipelines.evaluation.predictions import Float64

_AT_ONCE = 50
"""Draws weighed together: bounds the memory that many detections take."""


@dataclass(frozen=True)
class Difference:
    """One metric of two runs. difference: second minus first; low, high: ends of its confidence interval.

    better: the share of draws in which the second run is better, 0 to 1; draws that tie count half.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    better: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def differences(
    first: Details, second: Details, *, draws: int = 1000, seed: int = 0, confidence: float = 0.95
) -> list[Difference]:
    """One Difference per metric that has a value in both runs. Raises UsageError when they cannot be compared."""
    if type(first) is not type(second) or first.metrics(_once(first)).keys() != second.metrics(_once(second)).keys():
        raise UsageError("the runs have other metrics: one is of detections, the other of prompted objects")
    if not np.array_equal(first.image_ids, second.image_ids):
        raise UsageError(
            f"the runs are not of the same images ({len(first.image_ids)} and {len(second.image_ids)} of them)"
        )
    at_once = [first.metrics(_once(first)), second.metrics(_once(second))]
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[Float64]] = {name: [] for name in at_once[0]}
    for start in range(0, draws, _AT_ONCE):
        weights = _draw(rng, min(_AT_ONCE, draws - start), len(first.image_ids))
        before, after = first.metrics(weights), second.metrics(weights)
        for name, parts in drawn.items():
            parts.append(after[name] - before[name])
    found = []
    for name, parts in drawn.items():
        differences = np.concatenate(parts)
        differences = differences[~np.isnan(differences)]
        one, other = float(at_once[0][name][0]), float(at_once[1][name][0])
        if not np.isnan([one, other]).any() and len(differences):
            low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
            better = float(np.mean((differences > 0) + (differences == 0) / 2))
            found.append(Difference(name, one, other, other - one, low, high, better))
    return found


def _once(details: Details) -> Float64:
    return np.ones((1, len(details.image_ids)))


def _draw(rng: np.random.Generator, draws: int, images: int) -> Float64:
    """draws x images: how often each image is drawn when as many are drawn as there are."""
    return rng.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)
