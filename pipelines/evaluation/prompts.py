"""How the objects of an annotated image are prompted: by the truth's boxes, by clicks, or by boxes found or read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

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
from pipelines.evaluation.box_prompts import BoxesOfFile, FileOfBoxes
from pipelines.evaluation.clicks import click_rounds
from pipelines.evaluation.text_prompts import (
    CategoryDetector,
    CategoryNames,
    build_category_detector,
    check_category_detector,
)
from pipelines.files import reading
from pipelines.limits import FEW
from pipelines.names import folded
from pipelines.printable import brief
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Category, Detections, Image, Instances
from weights import digest


@dataclass(frozen=True)
class TruthBoxes:
    """Each object's own box."""


@dataclass(frozen=True)
class SimulatedClicks:
    """Clicks on each object's worst error. rounds: after how many clicks masks are scored, ascending."""

    rounds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.rounds or min(self.rounds) < 1 or sorted(set(self.rounds)) != list(self.rounds):
            raise UsageError(f"clicks {self.rounds} must be numbers of clicks, each greater than the one before it")
        if self.rounds[-1] > FEW.most:
            raise UsageError(f"clicks are {brief(self.rounds[-1])}, but must be {FEW.words}")


Prompting = TruthBoxes | SimulatedClicks | FileOfBoxes | DetectorConfig | CategoryNames


def names_of(config: Prompting) -> tuple[str, ...]:
    """The result sets that a way of prompting gives, by the names that they have in tables."""
    if isinstance(config, TruthBoxes):
        return ("gt-box",)
    if isinstance(config, SimulatedClicks):
        return tuple(f"clicks-{count}" for count in config.rounds)
    return (config.path.stem if isinstance(config, FileOfBoxes) else Path(config.model).stem,)


def check_prompting(config: Prompting, *, device: str = "cpu") -> None:
    """Raise what `build_prompter` would and can be told before anything is fetched."""
    if isinstance(config, DetectorConfig):
        check_detector(config, device=device)
    elif isinstance(config, CategoryNames):
        check_category_detector(config, device=device)
    elif isinstance(config, FileOfBoxes):
        with reading(config.path, "a file of boxes"):
            config.path.open("rb").close()


def check_classes(config: Prompting, truth: GroundTruth, *, agnostic: bool = False) -> None:
    """Raise UsageError for a detector that is known to find nothing of the truth, before its weights are here."""
    if isinstance(config, DetectorConfig) and config.model in DETECTORS and DETECTORS[config.model].of_coco:
        _ids_of_truth(config.model, COCO, truth, agnostic=agnostic)


def known_settings(config: Prompting) -> dict[str, Any]:
    """Of `Prompter.settings`, what is known without loading or fetching anything."""
    if not isinstance(config, DetectorConfig | CategoryNames):
        return {}
    if not is_here(config):
        return asdict(config)
    by_name = isinstance(config, CategoryNames)
    sha256 = digest.fingerprint(text.find_text_weights(config.model)) if by_name else detector_sha256(config.model)
    return {**asdict(config), "sha256": sha256}


def is_here(config: Prompting) -> bool:
    """Whether nothing has to be fetched for it."""
    if isinstance(config, DetectorConfig):
        return detectors.is_here(config.model)
    return text.is_here(config.model) if isinstance(config, CategoryNames) else True


class Prompter(Protocol):
    """names: of the result sets it gives, one or several. of_truth: whether it prompts the truth's own objects, each
    once and in order; agnostic: whether the classes of its boxes mean nothing. settings: what decides its prompts, for
    the stamp. batch: how many images it likes at once. notes: see `pipelines.notes`.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def of_truth(self) -> bool: ...
    @property
    def agnostic(self) -> bool: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def batch(self) -> int: ...
    @property
    def notes(self) -> Sequence[str]: ...

    def find(self, images: Sequence[Image], objects: Sequence[Sequence[TruthObject]]) -> Sequence[Detections]:
        """What is to be segmented in each image, found once whatever SAM is prompted. objects: those of each image.

        Raises ImageError.
        """

    def segment(self, sam: SamPredictor, found: Detections, objects: Sequence[TruthObject]) -> Sequence[Instances]:
        """One Instances per name. sam: holds the image; found: by `find`, not empty."""


def build_prompter(
    config: Prompting,
    truth: GroundTruth,
    *,
    agnostic: bool = False,
    device: str = "cpu",
    offline: bool | None = None,
) -> Prompter:
    """What `config` describes, ready for the images of the truth. agnostic: whatever classes its boxes have do not
    count; all become the truth's first.

    Raises EvsamError: for unknown names, missing weights, a file that cannot be read, a detector none of whose classes
    the truth has.
    """
    if isinstance(config, TruthBoxes):
        return _TruthBoxes()
    if isinstance(config, SimulatedClicks):
        return _Clicks(config)
    if isinstance(config, FileOfBoxes):
        return _FileBoxes(names_of(config), BoxesOfFile(config, truth, agnostic=agnostic), agnostic)
    if isinstance(config, CategoryNames):
        named, settings = build_category_detector(config, truth, device=device, offline=offline)
        return _CategoryNames(names_of(config), named, settings, agnostic)
    sha256 = detector_sha256(config.model, offline=offline)
    detector = build_detector(config, device=device, offline=offline)
    settings = {"kind": "Detector", **asdict(config), "sha256": sha256}
    (name,) = names_of(config)
    return NamedClasses(name, detector, truth, settings, agnostic)


class _OfTruth:
    """Prompts for each of the truth's objects."""

    of_truth = True
    agnostic = False
    batch = 1
    notes: Sequence[str] = ()

    def find(self, images: Sequence[Image], objects: Sequence[Sequence[TruthObject]]) -> Sequence[Detections]:
        return [_detections_of(of_image) for of_image in objects]


def _detections_of(objects: Sequence[TruthObject]) -> Detections:
    """The objects' own boxes, as they stand in the file, with score 1."""
    xywh = np.array([found.bbox for found in objects], np.float32).reshape(-1, 4)
    return Detections(
        to_xyxy(xywh, "xywh", width=1, height=1, allow_empty=True),
        np.ones(len(objects), np.float32),
        np.array([found.category_id for found in objects], np.int64),
    )


class _Boxes:
    """Every box found is a prompt."""

    of_truth = False
    notes: Sequence[str] = ()

    def segment(self, sam: SamPredictor, found: Detections, objects: Sequence[TruthObject]) -> Sequence[Instances]:
        return [Instances(found, sam.segment_boxes(found.boxes))]


class _TruthBoxes(_OfTruth, _Boxes):
    of_truth = True
    names = names_of(TruthBoxes())

    def __init__(self) -> None:
        self.settings = {"kind": "TruthBoxes"}


class _Clicks(_OfTruth):
    def __init__(self, config: SimulatedClicks) -> None:
        self.names = names_of(config)
        self.settings = {"kind": "SimulatedClicks", "rule": "RITM, all clicks sent again, no mask feedback"}
        self._rounds = config.rounds

    def segment(self, sam: SamPredictor, found: Detections, objects: Sequence[TruthObject]) -> Sequence[Instances]:
        shapes = [of_object.rle for of_object in objects]
        return [Instances(found, masks) for masks in click_rounds(sam, shapes, self._rounds)]


def _ids_of_truth(
    name: str, categories: Sequence[Category], truth: GroundTruth, *, agnostic: bool
) -> dict[int, int | None]:
    """A detector's category id -> the truth's of the same name, None where there is none; agnostic: its first.

    Raises UsageError when all are None.
    """
    ids = {folded(category.name): category.id for category in truth.categories}
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


class NamedClasses(_Boxes):
    """A detector whose classes become those of the truth by their names; those that the truth has not are dropped."""

    def __init__(
        self, name: str, detector: Detector, truth: GroundTruth, settings: Mapping[str, Any], agnostic: bool
    ) -> None:
        self.names = (name,)
        self.batch = detector.batch
        self.agnostic = agnostic or detector.categories == (OBJECT,)
        self._ids = _ids_of_truth(name, detector.categories, truth, agnostic=self.agnostic)
        unknown = [category.name for category in detector.categories if self._ids[category.id] is None]
        self.settings = {**settings, "classes_left_out": unknown, "agnostic": self.agnostic}
        self._detector = detector

    def find(self, images: Sequence[Image], objects: Sequence[Sequence[TruthObject]]) -> Sequence[Detections]:
        return [self._translate(found) for found in self._detector(images)]

    def _translate(self, found: Detections) -> Detections:
        ids = [self._ids[id] for id in found.category_ids.tolist()]
        kept = np.array([id is not None for id in ids], bool)
        return Detections(
            found.boxes[kept], found.scores[kept], np.array([id for id in ids if id is not None], np.int64)
        )


class _FileBoxes(_Boxes):
    """The boxes of a file."""

    batch = 1

    def __init__(self, names: tuple[str, ...], boxes: BoxesOfFile, agnostic: bool) -> None:
        self.names = names
        self.agnostic = agnostic
        self.settings = {**boxes.settings, "agnostic": agnostic}
        self.notes = boxes.notes
        self._boxes = boxes

    def find(self, images: Sequence[Image], objects: Sequence[Sequence[TruthObject]]) -> Sequence[Detections]:
        return [self._boxes(image) for image in images]


class _CategoryNames(_Boxes):
    """A text detector that was asked for the truth's own categories."""

    def __init__(
        self, names: tuple[str, ...], detector: CategoryDetector, settings: Mapping[str, Any], agnostic: bool
    ) -> None:
        self.names = names
        self.batch = detector.batch
        self.agnostic = agnostic
        self.settings = settings
        self._detector = detector

    def find(self, images: Sequence[Image], objects: Sequence[Sequence[TruthObject]]) -> Sequence[Detections]:
        return self._detector(images)
