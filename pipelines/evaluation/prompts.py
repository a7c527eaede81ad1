"""How the objects of an annotated image are prompted: by the truth's boxes, by clicks, or by boxes found or read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import detectors
from pipelines.boxes import to_xyxy
from pipelines.categories import COCO, OBJECT
from pipelines.detectors import (
    DETECTORS,
    Detector,
    DetectorConfig,
    build_detector,
    check_detector,
    detector_sha256,
    text,
)
from pipelines.errors import UsageError
from pipelines.evaluation.annotations import GroundTruth, TruthObject
from pipelines.evaluation.box_prompts import RawBoxFileDetector
from pipelines.evaluation.clicks import click_rounds
from pipelines.evaluation.config import (
    CategoryNames,
    EvaluationPrompts,
    RawBoxFilePrompts,
    SimulatedClicks,
    TruthBoxes,
)
from pipelines.evaluation.text_prompts import build_category_detector, check_category_detector
from pipelines.files import reading
from pipelines.names import folded
from pipelines.run import Finish, settled
from pipelines.sam.encoded import Encoded
from pipelines.sam.masks import LowResMasks
from pipelines.sam.prompting import PixelPrompts
from pipelines.types import Category, Detections, Image, Instances
from weights import digest


@dataclass(frozen=True, eq=False)
class EvaluationPrompter:
    """Prompts for the images of a truth.

    names: of the result sets it gives, one or several. settings: what decides its prompts, for the stamp.
    find: (images, objects of each) -> what is to be segmented in each, found once whatever SAM is prompted; it raises
    ImageError. segment: (encoded images, what was found in each and is not empty, objects of each) -> for each image
    what gives its instances, one per name.

    of_truth: whether it prompts the truth's own objects, each once and in order; agnostic: whether the classes of its
    boxes mean nothing. batch: how many images it likes at once. notes: see `pipelines.notes`.
    """

    names: tuple[str, ...]
    settings: Mapping[str, Any]
    find: Callable[[Sequence[Image], Sequence[Sequence[TruthObject]]], Sequence[Detections]]
    segment: Callable[[Encoded, Sequence[Detections], Sequence[Sequence[TruthObject]]], Sequence[Sequence[Finish]]]
    of_truth: bool = False
    agnostic: bool = False
    batch: int = 1
    notes: Sequence[str] = ()


def _segment_boxes(
    encoded: Encoded, found: Sequence[Detections], _: Sequence[Sequence[TruthObject]]
) -> Sequence[Sequence[Finish]]:
    low_res = encoded.segment([PixelPrompts(boxes=each.boxes) for each in found])
    return [[partial(_upscaled, *of_image)] for of_image in zip(found, low_res, strict=True)]


def _upscaled(found: Detections, low_res: LowResMasks) -> Instances:
    return Instances(found, low_res.upscale())


def _truth_boxes(_: Sequence[Image], objects: Sequence[Sequence[TruthObject]]) -> Sequence[Detections]:
    """The objects' own boxes, as they stand in the file, with score 1."""
    return [
        Detections(
            to_xyxy([found.bbox for found in of_image], "xywh", width=1, height=1, allow_empty=True),
            np.ones(len(of_image), np.float32),
            np.array([found.category_id for found in of_image], np.int64),
        )
        for of_image in objects
    ]


def _clicks(config: SimulatedClicks) -> EvaluationPrompter:
    def segment(
        encoded: Encoded, found: Sequence[Detections], objects: Sequence[Sequence[TruthObject]]
    ) -> Sequence[Sequence[Finish]]:
        shapes = [[of_object.rle for of_object in of_image] for of_image in objects]
        rounds = [click_rounds(one, each, config.rounds) for one, each in zip(encoded.each(), shapes, strict=True)]
        return [
            [settled(Instances(boxes, masks)) for masks in of_image]
            for boxes, of_image in zip(found, rounds, strict=True)
        ]

    settings = {"kind": "SimulatedClicks", "rule": "RITM, all clicks sent again, no mask feedback"}
    return EvaluationPrompter(names_of(config), settings, _truth_boxes, segment, of_truth=True)


def _found(
    names: tuple[str, ...],
    detector: Callable[[Sequence[Image]], Sequence[Detections]],
    settings: Mapping[str, Any],
    agnostic: bool,
    batch: int = 1,
    notes: Sequence[str] = (),
) -> EvaluationPrompter:
    """Every box that a detector finds is a prompt."""
    return EvaluationPrompter(
        names, settings, lambda images, _: detector(images), _segment_boxes, agnostic=agnostic, batch=batch, notes=notes
    )


def _file_boxes(
    config: RawBoxFilePrompts, truth: GroundTruth, agnostic: bool, device: str, offline: bool | None
) -> EvaluationPrompter:
    boxes = RawBoxFileDetector(config, truth, agnostic=agnostic)
    return _found(names_of(config), boxes, {**boxes.settings, "agnostic": agnostic}, agnostic, notes=boxes.notes)


def _category_names(
    config: CategoryNames, truth: GroundTruth, agnostic: bool, device: str, offline: bool | None
) -> EvaluationPrompter:
    detector, settings = build_category_detector(config, truth, device=device, offline=offline)
    return _found(names_of(config), detector, settings, agnostic, detector.batch)


def _detector(
    config: DetectorConfig, truth: GroundTruth, agnostic: bool, device: str, offline: bool | None
) -> EvaluationPrompter:
    sha256 = detector_sha256(config.model, offline=offline)
    detector = build_detector(config, device=device, offline=offline)
    (name,) = names_of(config)
    return named_classes(name, detector, truth, {"kind": "Detector", **asdict(config), "sha256": sha256}, agnostic)


def named_classes(
    name: str, detector: Detector, truth: GroundTruth, settings: Mapping[str, Any], agnostic: bool
) -> EvaluationPrompter:
    """A detector whose classes become those of the truth by their names; those that the truth has not are dropped."""
    agnostic = agnostic or detector.categories == (OBJECT,)
    ids = _ids_of_truth(name, detector.categories, truth, agnostic=agnostic)
    unknown = [category.name for category in detector.categories if ids[category.id] is None]

    def translated(found: Detections) -> Detections:
        found = found.take(np.array([ids[id] is not None for id in found.category_ids.tolist()], bool))
        return replace(found, category_ids=np.array([ids[id] for id in found.category_ids.tolist()], np.int64))

    settings = {**settings, "classes_left_out": unknown, "agnostic": agnostic}
    return _found(
        (name,), lambda images: [translated(found) for found in detector(images)], settings, agnostic, detector.batch
    )


def _ids_of_truth(
    name: str, categories: Sequence[Category], truth: GroundTruth, *, agnostic: bool
) -> dict[int, int | None]:
    """A detector's category id -> the truth's of the same name, None where there is none; agnostic: its first.

    Raises UsageError when all are None.
    """
    ids = truth.ids_by_name()
    found = {c.id: truth.categories[0].id if agnostic else ids.get(folded(c.name)) for c in categories}
    if all(id is None for id in found.values()):
        theirs, ours = _few(categories), _few(truth.categories)
        raise UsageError(
            f"none of the classes of {name} ({theirs}) is one of {truth.path.name} ({ours}): to score its boxes "
            "whatever their class, add --class-agnostic"
        )
    return found


def _few(categories: Sequence[Category]) -> str:
    names = [category.name for category in categories]
    return ", ".join([*names[:5], *(["..."] if len(names) > 5 else [])])


def _check_classes(config: DetectorConfig, truth: GroundTruth, agnostic: bool) -> None:
    if config.model in DETECTORS and DETECTORS[config.model].of_coco:
        _ids_of_truth(config.model, COCO, truth, agnostic=agnostic)


def _check_file(config: RawBoxFilePrompts, device: str) -> None:
    with reading(config.path, "a file of boxes"):
        config.path.open("rb").close()


@dataclass(frozen=True)
class _Kind:
    """What a kind of configuration stands for.

    names: see `names_of`. build: (config, truth, agnostic, device, offline) -> EvaluationPrompter. check: (config,
    device), and check_classes: (config, truth, agnostic), raise what can be told before anything is fetched.

    is_here: whether nothing has to be fetched. sha256: (config, offline) -> its weights', where it has a model.
    """

    names: Callable[[Any], tuple[str, ...]]
    build: Callable[[Any, GroundTruth, bool, str, bool | None], EvaluationPrompter]
    check: Callable[[Any, str], None] = lambda config, device: None
    check_classes: Callable[[Any, GroundTruth, bool], None] = lambda config, truth, agnostic: None
    is_here: Callable[[Any], bool] = lambda config: True
    sha256: Callable[[Any, bool | None], str | None] | None = None


_KINDS: dict[type, _Kind] = {
    TruthBoxes: _Kind(
        lambda config: ("gt-box",),
        lambda config, *_: EvaluationPrompter(
            names_of(config), {"kind": "TruthBoxes"}, _truth_boxes, _segment_boxes, of_truth=True
        ),
    ),
    SimulatedClicks: _Kind(
        lambda config: tuple(f"clicks-{count}" for count in config.rounds), lambda config, *_: _clicks(config)
    ),
    RawBoxFilePrompts: _Kind(lambda config: (config.path.stem,), _file_boxes, _check_file),
    DetectorConfig: _Kind(
        lambda config: (Path(config.model).stem,),
        _detector,
        lambda config, device: check_detector(config, device=device),
        _check_classes,
        lambda config: detectors.is_here(config.model),
        lambda config, offline: detector_sha256(config.model, offline=offline),
    ),
    CategoryNames: _Kind(
        lambda config: (Path(config.model).stem,),
        _category_names,
        lambda config, device: check_category_detector(config, device=device),
        is_here=lambda config: text.is_here(config.model),
        sha256=lambda config, offline: digest.fingerprint(text.find_text_weights(config.model, offline=offline)),
    ),
}


def names_of(config: EvaluationPrompts) -> tuple[str, ...]:
    """The result sets that a way of prompting gives, by the names that they have in tables."""
    return _KINDS[type(config)].names(config)


def check_prompting(config: EvaluationPrompts, *, device: str = "cpu") -> None:
    """Raise what `build_evaluation_prompter` would and can be told before anything is fetched."""
    _KINDS[type(config)].check(config, device)


def check_classes(config: EvaluationPrompts, truth: GroundTruth, *, agnostic: bool = False) -> None:
    """Raise UsageError for a detector that is known to find nothing of the truth, before its weights are here."""
    _KINDS[type(config)].check_classes(config, truth, agnostic)


def known_settings(config: EvaluationPrompts) -> dict[str, Any]:
    """Of `EvaluationPrompter.settings`, what is known without loading or fetching anything."""
    sha256 = _KINDS[type(config)].sha256
    if sha256 is None:
        return {}
    return {**asdict(config), **({"sha256": sha256(config, None)} if is_here(config) else {})}


def is_here(config: EvaluationPrompts) -> bool:
    """Whether nothing has to be fetched for it."""
    return _KINDS[type(config)].is_here(config)


def build_evaluation_prompter(
    config: EvaluationPrompts,
    truth: GroundTruth,
    *,
    agnostic: bool = False,
    device: str = "cpu",
    offline: bool | None = None,
) -> EvaluationPrompter:
    """What `config` describes, ready for the images of the truth. agnostic: whatever classes its boxes have do not
    count; all become the truth's first.

    Raises EvsamError: for unknown names, missing weights, a file that cannot be read, a detector none of whose classes
    the truth has.
    """
    return _KINDS[type(config)].build(config, truth, agnostic, device, offline)
