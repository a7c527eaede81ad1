"""What to segment in each image: boxes from a detector, from a file or from the user, or one object's clicks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pipelines import detectors
from pipelines.attempts import together_or_alone
from pipelines.detectors import DetectorConfig, build_detector, check_detector, detector_sha256, text, with_defaults
from pipelines.detectors.text import build_text_detector, check_text_detector, find_text_weights, with_text_defaults
from pipelines.detectors.text.contract import TextConfig
from pipelines.errors import DataError, ImageError
from pipelines.run.stages import StageClock
from pipelines.types import Category, Detections, Image, Points
from weights import digest

Found = TypeVar("Found", bound=Detections | Points)


@dataclass(frozen=True)
class BoxFilePrompts:
    """Boxes from a file, or a folder of label files. box_format: how its numbers are to be read, or the format of
    labels; None to take it from the file itself. class_names: in their order, for formats that may lack them."""

    path: str
    box_format: str | None = None
    min_score: float | None = None
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class GivenBoxes:
    """The same xyxy boxes, in pixels, for every image."""

    boxes: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class GivenPoints:
    """The same clicks (x, y, label) for every image; together they name one object."""

    points: tuple[tuple[float, float, int], ...]


PromptConfig = DetectorConfig | TextConfig | BoxFilePrompts | GivenBoxes | GivenPoints


class Prompter(Protocol):
    """Prompts for images: a Detector, or anything that also gives clicks.

    It may have `image_ids`, name -> id, when what it reads has ids for the images. For `run.json` it may have `counts`,
    name -> number, what became of the boxes of all images so far; `of_file`, how many boxes of a file are used in none
    of them; `notes`, sentences for the user, see `pipelines.notes`.
    """

    @property
    def categories(self) -> tuple[Category, ...]:
        """All classes that its prompts can have."""

    @property
    def batch(self) -> int:
        """How many images it likes to see at once."""

    def __call__(self, images: Sequence[Image]) -> Sequence[Detections | Points]:
        """One prompt set per image. Raises ImageError when an image cannot be prompted."""


@dataclass(frozen=True)
class _Kind:
    """What a kind of configuration stands for.

    name: what `run.json` calls it. build: (config, image ids, device, offline) -> Prompter. check: (config, device)
    raises what is wrong and can be told before anything is fetched or read whole. is_here: whether nothing has to be
    fetched. digest: (config, offline) -> sha256 of the file that the configuration names; digest_key: what `run.json`
    calls that. with_defaults: the configuration with the model's own values where it leaves them to the model.
    """

    name: str
    build: Callable[[Any, Mapping[str, int], str, bool | None], Prompter]
    check: Callable[[Any, str], None] = lambda config, device: None
    is_here: Callable[[Any], bool] = lambda config: True
    digest: Callable[[Any, bool | None], str | None] | None = None
    digest_key: str = ""
    with_defaults: Callable[[Any], Any] = lambda config: config


def _box_file(config: BoxFilePrompts, image_ids: Mapping[str, int], device: str, offline: bool | None) -> Prompter:
    from pipelines.detectors.box_file import BoxFileDetector

    return BoxFileDetector(
        Path(config.path),
        config.box_format,
        image_ids,
        min_score=config.min_score,
        class_names=config.class_names,
    )


def _check_box_file(config: BoxFilePrompts, device: str) -> None:
    path = Path(config.path)
    try:
        if not path.is_file() and not path.is_dir():
            raise DataError(f"there is no box file {path}")
        if path.is_file():
            path.open("rb").close()
    except OSError as error:
        raise DataError(f"the box file {path} cannot be read: {error.strerror}") from error


def _box_digest(config: BoxFilePrompts, offline: bool | None) -> str:
    from pipelines.labels.files import digest_of

    return digest_of(Path(config.path))


def _given_boxes(config: GivenBoxes, image_ids: Mapping[str, int], device: str, offline: bool | None) -> Prompter:
    from pipelines.detectors.given import Given

    return Given(config.boxes)


def _given_points(config: GivenPoints, image_ids: Mapping[str, int], device: str, offline: bool | None) -> Prompter:
    from pipelines.detectors.given import GivenClicks

    return GivenClicks(config.points)


_KINDS: dict[type, _Kind] = {
    DetectorConfig: _Kind(
        "DetectorConfig",
        lambda config, image_ids, device, offline: build_detector(config, device=device, offline=offline),
        lambda config, device: check_detector(config, device=device),
        lambda config: detectors.is_here(config.model),
        lambda config, offline: detector_sha256(config.model, offline=offline),
        "detector_sha256",
        with_defaults,
    ),
    TextConfig: _Kind(
        "TextConfig",
        lambda config, image_ids, device, offline: build_text_detector(config, device=device, offline=offline),
        lambda config, device: check_text_detector(config, device=device),
        lambda config: text.is_here(config.model),
        lambda config, offline: digest.fingerprint(find_text_weights(config.model, offline=offline)),
        "detector_sha256",
        with_text_defaults,
    ),
    BoxFilePrompts: _Kind(
        "BoxFileConfig",
        _box_file,
        _check_box_file,
        digest=_box_digest,
        digest_key="boxes_sha256",
    ),
    GivenBoxes: _Kind("GivenBoxes", _given_boxes),
    GivenPoints: _Kind("GivenPoints", _given_points),
}


def check_prompts(config: PromptConfig, *, device: str = "cpu") -> None:
    """Raise what `build_prompter` would and can be told before anything is fetched or read whole."""
    _KINDS[type(config)].check(config, device)


def prompts_are_here(config: PromptConfig) -> bool:
    """Whether nothing has to be fetched for `build_prompter`."""
    return _KINDS[type(config)].is_here(config)


def build_prompter(
    config: PromptConfig, image_ids: Mapping[str, int], *, device: str = "cpu", offline: bool | None = None
) -> Prompter:
    """The source of prompts that `config` describes. image_ids: name -> id of all images, for boxes from a file."""
    return _KINDS[type(config)].build(config, image_ids, device, offline)


def prompt_images(
    prompter: Callable[[Sequence[Image]], Sequence[Found]], images: Sequence[Image], clock: StageClock, stage: str
) -> list[Found | ImageError]:
    """Prompts for each image. When the prompter refuses them together, each is asked for alone."""

    def ask(images: Sequence[Image]) -> Sequence[Found]:
        with clock(stage):
            return prompter(images)

    return together_or_alone(ask, images, lambda image: image, " while looking for boxes")


_REPORTED = {"boxes": "counts", "box_file": "of_file", "notes": "notes"}


def prompt_report(prompter: Prompter) -> dict[str, Any]:
    """What `run.json` says of the boxes."""
    return {key: value for key, name in _REPORTED.items() if (value := getattr(prompter, name, None))}


def prompt_defaults(config: PromptConfig) -> dict[str, str]:
    """Of values that `config` leaves to the model: `{"conf": "0.1, objects' own"}`."""
    resolved = _KINDS[type(config)].with_defaults(config)
    left = [field.name for field in fields(config) if getattr(config, field.name) != getattr(resolved, field.name)]
    return {name: f"{getattr(resolved, name):g}, the own value of {resolved.model}" for name in left}


def prompt_settings(config: PromptConfig, *, offline: bool | None = None) -> dict[str, Any]:
    """What decides the prompts, as `pipelines.run.loop.run` takes it: the configuration, and its file's content."""
    kind = _KINDS[type(config)]
    described = {"kind": kind.name, **asdict(kind.with_defaults(config))}
    content = {kind.digest_key: partial(kind.digest, config, offline)} if kind.digest else {}
    return {"prompts": described, **content}
