"""What went wrong, detection by detection, and how much AP50 each kind of mistake costs.

After Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2, with the
localisation error split in two, because a box-prompted mask can be wrong although its box is right. A detection that
matches nothing at an IoU of 0.5 has the first of these mistakes that fits:

mask          its box fits an object of its class (box IoU at least 0.5), its mask does not
localisation  its mask overlaps an object of its class, by 0.1 or more
class         its mask fits an object of another class
duplicate     its mask fits an object of its class that a better detection has taken
background    its mask overlaps no object by more than 0.1
both          its mask overlaps an object of another class: wrong class and wrong place
missed        (an object) no detection has it, nor would any if its mask, place or class were mended
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from pipelines.evaluation.matching import Matches, Scene, box_overlap
from pipelines.evaluation.predictions import Float64, Predictions
from pipelines.evaluation.weighted_ap import weighted_ap
from pipelines.types import Bool, Int64

FITS, TOUCHES = 0.5, 0.1
"""IoU from which a mask or box fits an object, and from which it overlaps it at all."""
MENDABLE = ("mask", "localisation", "class")
KINDS = (*MENDABLE, "duplicate", "background", "both", "missed")


@dataclass(frozen=True)
class Mistake:
    """count: detections, or objects for "missed". cost: how much higher AP50 would be without them, 0 to 1."""

    kind: str
    count: int
    cost: float


def break_down(scenes: Iterable[Scene], matches: Matches, predictions: Predictions) -> list[Mistake]:
    """One Mistake per kind of `KINDS`. matches: of the same scenes; predictions: theirs.

    cost: mask, localisation and class mistakes are mended (the best-scored one of each object becomes right, the others
    go), the other detections go, and missed objects are no longer to be found.
    """
    kinds, targets = _classify(scenes, matches, predictions)
    taken = np.zeros(len(matches.counted), np.bool_)
    taken[matches.found[matches.found[:, 0] >= 0, 0]] = True
    mended = _mendable(matches, kinds, targets, taken)
    reached = taken.copy()
    reached[targets[np.isin(kinds, _indices(MENDABLE))]] = True
    missed = matches.counted & ~reached

    at_half = replace(matches, found=matches.found[:, :1], ignored=matches.ignored[:, :1])
    classes = len(np.unique(matches.object_classes[matches.counted]))

    def ap(changed: Matches) -> float:
        """AP50, the mean over the classes there were: one whose objects are all gone counts as 0."""
        return float(np.nansum(weighted_ap(changed))) / max(classes, 1)

    base = ap(at_half)
    mistakes = []
    for index, kind in enumerate(KINDS[:-1]):
        of_kind = kinds == index
        cost = ap(_without(at_half, of_kind, mended & of_kind, targets)) - base
        mistakes.append(Mistake(kind, int(of_kind.sum()), cost))
    cost = ap(replace(at_half, counted=matches.counted & ~missed)) - base
    return [*mistakes, Mistake("missed", int(missed.sum()), cost)]


def _indices(kinds: Iterable[str]) -> list[int]:
    return [KINDS.index(kind) for kind in kinds]


def _classify(scenes: Iterable[Scene], matches: Matches, predictions: Predictions) -> tuple[Int64, Int64]:
    """Each detection's index in `KINDS` (-1: right, or ignored) and the object it should have found (-1: none)."""
    kinds, targets = np.full(len(matches.rows), -1), np.full(len(matches.rows), -1)
    dets_before = objects_before = 0
    for scene in scenes:
        place = slice(dets_before, dets_before + len(scene.rows))
        wrong = (matches.found[place, 0] < 0) & ~matches.ignored[place, 0]
        kind, target = _classify_scene(scene, predictions.boxes[scene.rows])
        kinds[place] = np.where(wrong, kind, -1)
        targets[place] = np.where(wrong & (target >= 0), target + objects_before, -1)
        dets_before += len(scene.rows)
        objects_before += len(scene.objects)
    return kinds, targets


def _classify_scene(scene: Scene, boxes: Float64) -> tuple[Int64, Int64]:
    regular = np.array([not found.crowd for found in scene.objects], bool)
    if not regular.any() or not len(boxes):
        return np.full(len(boxes), KINDS.index("background")), np.full(len(boxes), -1)
    same = (scene.det_classes[:, None] == scene.classes) & regular
    own, own_at = _best(scene.overlaps, same)
    other, other_at = _best(scene.overlaps, ~same & regular)
    box, box_at = _best(box_overlap(boxes, scene.objects), same)
    tests = [
        ("mask", (own < FITS) & (box >= FITS), box_at),
        ("localisation", (own < FITS) & (own >= TOUCHES), own_at),
        ("class", other >= FITS, other_at),
        ("duplicate", own >= FITS, None),
        ("background", np.maximum(own, other) <= TOUCHES, None),
        ("both", np.ones(len(boxes), bool), None),
    ]
    nowhere = np.full(len(boxes), -1)
    which = [test for _, test, _ in tests]
    kinds = np.select(which, [np.full(len(boxes), KINDS.index(kind)) for kind, _, _ in tests])
    targets = np.select(which, [nowhere if target is None else target for _, _, target in tests])
    return kinds, targets


def _best(overlaps: Float64, allowed: Bool) -> tuple[Float64, Int64]:
    """Per detection its greatest overlap among the allowed objects, and that object; -1 where none is allowed."""
    masked = np.where(allowed, overlaps, -1)
    return masked.max(1), masked.argmax(1)


def _mendable(matches: Matches, kinds: Int64, targets: Int64, taken: Bool) -> Bool:
    """Per object nobody has, the best-scored detection that would have it if its mistake were mended."""
    mended = np.zeros(len(kinds), np.bool_)
    candidates = np.flatnonzero(np.isin(kinds, _indices(MENDABLE)))
    candidates = candidates[~taken[targets[candidates]]]
    candidates = candidates[np.argsort(-matches.scores[candidates], kind="stable")]
    _, first = np.unique(targets[candidates], return_index=True)
    mended[candidates[first]] = True
    return mended


def _without(matches: Matches, gone: Bool, mended: Bool, targets: Int64) -> Matches:
    """The matches with some detections gone, and of these some back as right ones of their target's class."""
    found, classes = matches.found.copy(), matches.classes.copy()
    found[mended, 0] = targets[mended]
    classes[mended] = matches.object_classes[targets[mended]]
    return replace(matches, found=found, classes=classes, ignored=matches.ignored | (gone & ~mended)[:, None])
