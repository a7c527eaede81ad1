"""A benchmark's table: a row per subject, columns for what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.benchmark.cost import REFERENCE, cost_of
from pipelines.benchmark.measured import Measured
from pipelines.benchmark.subjects import DRAWN
from pipelines.benchmark.timing import Failed, Outcome, Times

NAMES = 3
"""Columns at the left that hold no numbers."""
_EXPLAINED = {
    "EER": "EER: mean of parameters and of MACs, over those of SAM ViT-H.",
    ", ms": "Times: medians, with their range in brackets where there are several.",
    ", s": "Times: medians, with their range in brackets where there are several.",
    "images/s": "images/s: of the encoder at the largest batch.",
    " x": "x: how many times as fast as the first row, the median of the ratios round by round.",
    "IoU": "IoU: of the masks with those of the first row of the same SAM, mean and worst.",
}
"""What columns mean, by the end of their titles."""


def legend(header: Sequence[str]) -> str:
    """A sentence for each kind of column that is there."""
    return " ".join(
        dict.fromkeys(text for end, text in _EXPLAINED.items() if any(title.endswith(end) for title in header))
    )


def text_rows(measured: Sequence[Measured]) -> list[list[str]]:
    """A header and the rows."""
    first = measured[0] if len(measured) > 1 else None
    shown = {
        "weights": any(one.subject.kind == DRAWN for one in measured),
        "accuracy": any(one.subject.accuracy is not None for one in measured),
    }
    rows = [_cells(one, first, shown) for one in measured]
    header = list(dict.fromkeys(title for row in rows for title in row))
    return [header, *([row.get(title, "-") for title in header] for row in rows)]


def _cells(one: Measured, first: Measured | None, shown: Mapping[str, bool]) -> dict[str, str]:
    """Title -> text. first: whose times the others are held against. shown: of columns that some tables lack, whether
    this one has them."""
    subject, cost = one.subject, one.cost
    cells = {
        "SAM": subject.sam,
        "back end": subject.backend,
        "precision": subject.precision,
        "params M": f"{cost.parameters / 1e6:.1f}",
        "MACs G": f"{cost.macs / 1e9:.1f}",
        "EER": f"{cost.error_rate(cost_of(REFERENCE)):.3f}",
    }
    if shown["weights"]:
        cells["weights"] = subject.kind
    if shown["accuracy"]:
        cells["accuracy"] = "-" if subject.accuracy is None else f"{subject.accuracy:g}"
    for batch, times in one.encoder.items():
        cells |= _timed(f"encode {batch}, ms", 1000, times, first.encoder[batch] if first else None)
    if one.encoder:
        batch = max(one.encoder)
        cells["images/s"] = _per_second(batch, one.encoder[batch])
    if one.boxes:
        *fewer, most = sorted(one.boxes)
        for count in fewer:
            cells[f"{count} boxes, ms"] = _timed("", 1000, one.boxes[count], None)[""].partition(" (")[0]
        cells |= _timed(f"{most} boxes, ms", 1000, one.boxes[most], first.boxes[most] if first else None)
    for side, times in one.everything.items():
        cells |= _timed(f"grid {side}, s", 1, times, first.everything[side] if first else None)
    for images, times in one.folder.items():
        cells["folder, images/s"] = _per_second(images, times)
    if one.memory is not None:
        cells["peak MiB"] = f"{one.memory.process:.0f}"
        if one.memory.gpu is not None:
            cells["GPU MiB"] = f"{one.memory.gpu:.0f}"
    if one.agreement is not None:
        cells["IoU"] = f"{one.agreement.mean:.4f} ({one.agreement.least:.3f})"
    return cells


def _per_second(images: int, times: Outcome[Any]) -> str:
    return times.reason if isinstance(times, Failed) else number(images / times.median)


def _timed(title: str, scale: float, times: Outcome[Any], first: Outcome[Any] | None) -> dict[str, str]:
    if isinstance(times, Failed):
        return {title: times.reason}
    values = [scale * seconds for seconds in (times.median, min(times.seconds), max(times.seconds))]
    digits = _decimals(values[0])
    median, least, most = (f"{value:.{digits}f}" for value in values)
    cells = {title: f"{median} ({least}-{most})" if len(times.seconds) > 1 else median}
    if not isinstance(first, Times):
        return cells
    return cells | {f"{title[: title.index(',')]} x": number(times.faster_than(first))}


def number(value: float) -> str:
    """Three digits that say something, or as many as stand before the point. value: above 0."""
    return f"{value:.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    return max(0, 2 - math.floor(math.log10(value)))
