"""`evsam compare`: the scores of two runs, read from their folders, and whether they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError
from pipelines.evaluation.bootstrap import Difference, differences
from pipelines.evaluation.details import load_details
from pipelines.evaluation.evaluate import DETAILS, SCORES
from pipelines.evaluation.protocols import CONFIDENCE, DRAWS
from pipelines.files import read_json, reading

FEW_IMAGES = 30
"""Percentile intervals of fewer are known to leave out the truth too often."""


@dataclass(frozen=True)
class Comparison:
    """first, second: names of the runs, or their folders if both have one name.

    images: how many both were scored on; draws, seed, confidence: of the bootstrap.
    """

    first: str
    second: str
    differences: Sequence[Difference]
    images: int
    draws: int
    seed: int
    confidence: float

    @property
    def notes(self) -> list[str]:
        """What a reader of the interval must know."""
        if self.images >= FEW_IMAGES:
            return []
        return [
            f"the interval rests on {self.images} images alone: with fewer than {FEW_IMAGES} it is often too narrow"
        ]


def compare_runs(
    first: Path, second: Path, *, draws: int = DRAWS, seed: int = 0, confidence: float = CONFIDENCE
) -> Comparison:
    """Compare two cells: folders with a `scores.json`, or runs that have only one such folder.

    Raises UsageError when they were scored on other data, under other rules or on other images, DataError when a file
    is missing or damaged.
    """
    if draws < 1 or seed < 0 or not 0 < confidence < 1:
        raise UsageError(
            f"draws ({draws}) must be at least 1, seed ({seed}) at least 0, confidence ({confidence:g}) between 0 and 1"
        )
    folders = _cell(first), _cell(second)
    scores = [_read(folder / SCORES) for folder in folders]
    one, other = (_rules(score["stamp"]) for score in scores)
    for what, value in one.items():
        if value != other[what]:
            raise UsageError(f"the runs were not scored alike: {what} {value} and {other[what]}")
    details = [load_details(folder / DETAILS) for folder in folders]
    found = differences(details[0], details[1], draws=draws, seed=seed, confidence=confidence)
    names = [score["name"] for score in scores]
    names = [str(folder) for folder in folders] if names[0] == names[1] else names
    return Comparison(names[0], names[1], found, len(details[0].image_ids), draws, seed, confidence)


def _rules(stamp: Mapping[str, Any]) -> dict[str, str]:
    """What two scores must agree on to be compared."""
    return {
        "data set": stamp["data_set"]["kind"],
        "annotations of sha256": stamp["data_set"]["sha256"],
        "protocol": stamp["protocol"]["name"],
        "classes": stamp["classes"],
    }


def _cell(folder: Path) -> Path:
    if (folder / SCORES).is_file():
        return folder
    cells = sorted(path.parent for path in folder.glob(f"*/{SCORES}"))
    if len(cells) == 1:
        return cells[0]
    if not cells:
        raise UsageError(f"{folder} holds no score: name a folder that `evsam evaluate` wrote")
    raise UsageError(f"{folder} holds several scores: name one of {', '.join(map(str, cells))}")


def _read(path: Path) -> Mapping[str, Any]:
    what = "a score of `evsam evaluate`"
    document: Mapping[str, Any] = read_json(path, what)
    with reading(path, what):
        _ = document["name"], _rules(document["stamp"])
    return document
