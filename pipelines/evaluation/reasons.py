"""Why a metric has no value, and which objects are not in one: sentences for the notes of a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.evaluation.annotations import GroundTruth, TruthObject
from pipelines.evaluation.protocols import Protocol

Metrics = Mapping[str, Mapping[str, float | None]]

_OF_ALL_MASKS = ("segm", "boundary")
"""Families that need the masks of all objects: a mask found for an object without one would be wrong."""
_SIZE = "no object is of that size"
_LEVELS = {
    **dict.fromkeys(("large", "medium", "small"), _SIZE),
    **dict.fromkeys((f"{kind}{size}" for kind in ("AP", "AR") for size in "sml"), _SIZE),
    **dict.fromkeys(("APr", "APc", "APf"), "no object is of a class of that frequency"),
}
"""Metrics of some of the objects, and why they have no value where others have."""


def notes_of_prompted(truth: GroundTruth, metrics: Metrics, protocol: Protocol) -> list[str]:
    """What there is to say of the mIoU of the truth's own objects."""
    objects = truth.all_objects()
    masked = [found for found in objects if found.masked]
    small = [found for found in masked if found.area < protocol.min_area]
    if objects and not masked:
        reason: str | None = "no object has a mask"
    else:
        reason = _why_none_counts(masked, min_area=protocol.min_area, crowds=protocol.crowds)
    notes = _without_value(metrics, {}, reason)
    for left_out, why in ((len(objects) - len(masked), "no mask"), (len(small), f"areas below {protocol.min_area:g}")):
        if left_out and reason is None:
            notes.append(f"{left_out} of {len(objects)} objects have {why}: they are not in mIoU")
    return notes


def notes_of_detections(truth: GroundTruth, metrics: Metrics) -> list[str]:
    """What there is to say of AP and AR."""
    objects = truth.all_objects()
    unmasked = sum(not found.masked for found in objects)
    of_masks = f"{unmasked} of {len(objects)} objects have no mask"
    return _without_value(
        metrics,
        dict.fromkeys(_OF_ALL_MASKS, of_masks) if unmasked else {},
        _why_none_counts(objects, min_area=0, crowds=False),
    )


def _why_none_counts(objects: Sequence[TruthObject], *, min_area: float, crowds: bool) -> str | None:
    """None where an object counts. crowds: whether they do."""
    left_out = {
        "are crowds": [found.crowd and not crowds for found in objects],
        f"have areas below {min_area:g}": [found.area < min_area for found in objects],
    }
    if not objects:
        return "no object is annotated"
    for why, of_objects in left_out.items():
        if all(of_objects):
            return f"all objects {why}"
    return f"all objects {' or '.join(left_out)}" if all(map(any, zip(*left_out.values(), strict=True))) else None


def _without_value(metrics: Metrics, of_families: Mapping[str, str], of_all: str | None) -> list[str]:
    """A sentence for each reason that metrics have no value. of_families: by family; of_all: whatever the metric."""
    labels: dict[str, dict[str, None]] = {}
    for family, values in metrics.items():
        missing = [name for name, value in values.items() if value is None]
        if reason := of_families.get(family) or of_all:
            labels.setdefault(reason, {}).update({family: None} if missing else {})
            continue
        for name in missing:  # of objects of one kind, which no family has
            label = name if name.startswith("A") else f"mIoU {name}"
            labels.setdefault(_LEVELS.get(name, "no object counts"), {})[label] = None
    return [f"no value for {', '.join(names)}: {reason}" for reason, names in labels.items() if names]
