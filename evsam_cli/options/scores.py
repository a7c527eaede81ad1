"""Options of the verbs of `evsam evaluate`: what is prompted and how, and whose rules score it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from evsam_cli.options import choices, numbers, option, path, split
from evsam_cli.options.detectors import ImgSize, precision_of_reader
from evsam_cli.options.models import BOX_MARGIN, SMALL_REGIONS, ModelOptions, margin
from evsam_cli.options.runs import Quiet, ResumeOptions
from pipelines.detectors import DETECTORS, DetectorConfig
from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.evaluation.config import (
    CategoryNames,
    EvaluationConfig,
    EvaluationPrompts,
    RawBoxFilePrompts,
    SimulatedClicks,
    TruthBoxes,
)
from pipelines.evaluation.protocols import PROTOCOLS
from pipelines.limits import COUNT, MANY, SHARE, TIMES
from pipelines.sam import SAMS, SamConfig
from pipelines.sam.rules import MaskRules

_PROMPTS, _SCORING = "Boxes", "Scoring"
_AS_PUBLISHED = "Unless given, masks are scored as the SAM gives them, whatever its own values are."

Annotations = Annotated[
    Path, typer.Argument(metavar="ANNOTATIONS", help="The annotation file.", show_default=False, parser=path)
]
Detectors = Annotated[
    list[str] | None,
    option(
        _PROMPTS,
        "--detector",
        "-d",
        metavar="NAME|FILE,...",
        help=f"Boxes of detectors: {', '.join(DETECTORS)}, a .pt / .onnx of ultralytics, or one that is asked for the "
        f"category names: {', '.join(TEXT_DETECTORS)}. Names or files with commas between them.",
        offered=(*DETECTORS, *TEXT_DETECTORS),
    ),
]
Agnostic = Annotated[
    bool, option(_SCORING, "--class-agnostic", help="Take all classes as one; always so for `objects`.")
]


@dataclass(frozen=True)
class BoxOptions:
    """Which boxes of detectors are taken."""

    conf: Annotated[float, option(_PROMPTS, "--conf", help="Lowest score of --detector.", within=SHARE)] = 0.001
    iou: Annotated[float, option(_PROMPTS, "--iou", help="Its boxes that overlap more are one.", within=SHARE)] = 0.7
    max_det: Annotated[
        int | None,
        option(
            _PROMPTS,
            "--max-det",
            help="Its boxes per image.",
            within=MANY,
            show_default=f"{DetectorConfig.max_det}, asked for names {CategoryNames.max_det}",
        ),
    ] = None
    imgsz: ImgSize = None

    def prompts(self, detectors: list[str] | None, precision: str) -> list[EvaluationPrompts]:
        """What --detector asks for: text detectors by the category names, others as they are."""
        return [
            CategoryNames(
                model=name, max_det=self.max_det or CategoryNames.max_det, precision=precision_of_reader(precision)
            )
            if name in TEXT_DETECTORS
            else DetectorConfig(
                model=name,
                conf=self.conf,
                iou=self.iou,
                max_det=self.max_det or DetectorConfig.max_det,
                imgsz=self.imgsz,
            )
            for name in split(detectors)
        ]


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """What is scored, and how SAMs are prompted for it."""

    images: Annotated[
        Path | None,
        option(
            "Images",
            "--images",
            metavar="FOLDER",
            help="Folder that the file names of the annotations are below; not needed for --results.",
            parser=path,
        ),
    ] = None
    gt_boxes: Annotated[bool, option(_PROMPTS, "--gt-boxes", help="The boxes of the annotated objects.")] = False
    clicks: Annotated[
        list[str] | None,
        option(_PROMPTS, "--clicks", metavar="N,...", help="So many simulated clicks per object: 1,3,5."),
    ] = None
    detector: Detectors = None
    boxes: Annotated[
        list[Path] | None,
        option(
            _PROMPTS,
            "--boxes",
            metavar="FILE",
            help="All boxes of a file, as the published sources; repeat.",
            parser=path,
        ),
    ] = None
    results: Annotated[
        list[Path] | None,
        option(
            _PROMPTS, "--results", metavar="FILE", help="No model: score this COCO results file; repeat.", parser=path
        ),
    ] = None
    taken: BoxOptions

    def prompts(self, precision: str) -> tuple[EvaluationPrompts, ...]:
        """precision: of detectors that read. Raises UsageError."""
        return (
            *([TruthBoxes()] if self.gt_boxes else []),
            *([SimulatedClicks(numbers("--clicks", self.clicks))] if self.clicks else []),
            *self.taken.prompts(self.detector, precision),
            *map(RawBoxFilePrompts, self.boxes or ()),
        )


@dataclass(frozen=True, kw_only=True)
class SamOptions:
    """What makes the masks. They are scored as they come, as protocols have it, unless a rule is given."""

    sam: Annotated[
        list[str],
        option(
            "Models",
            "--sam",
            metavar="NAME,...",
            help=f"What makes the masks, names with commas between them: {', '.join(SAMS)}.",
            offered=SAMS,
        ),
    ] = field(default_factory=lambda: [SamConfig.name])
    models: ModelOptions
    box_margin: Annotated[
        str | None, option("Masks", "--box-margin", metavar="SHARE|none", help=f"{BOX_MARGIN} {_AS_PUBLISHED}")
    ] = None
    min_mask_region_area: Annotated[
        int, option("Masks", "--min-mask-region-area", help=f"{SMALL_REGIONS} {_AS_PUBLISHED}", within=TIMES)
    ] = MaskRules.min_mask_region_area

    def configs(self) -> tuple[SamConfig, ...]:
        """What the pipeline is told of each. Raises UsageError."""
        return self.models.configs(self.sam, MaskRules(margin(self.box_margin), self.min_mask_region_area))

    @property
    def offline(self) -> bool | None:
        return self.models.offline or None


@dataclass(frozen=True)
class RuleOptions:
    """By which rules is scored."""

    protocol: Annotated[
        str, option(_SCORING, "--protocol", metavar="NAME", help=choices("Whose rules.", PROTOCOLS), offered=PROTOCOLS)
    ] = EvaluationConfig.protocol
    class_agnostic: Agnostic = False
    boundary: Annotated[bool, option(_SCORING, "--boundary", help="Boundary AP of detections too: slower.")] = False
    limit: Annotated[
        int | None, option(_SCORING, "--limit", help="Only the first images of the file.", within=COUNT)
    ] = None


@dataclass(frozen=True)
class ReportOptions:
    """How scores are shown."""

    report: Annotated[bool, option("Output", "--report/--no-report", help="Write report.html.")] = True
    as_json: Annotated[bool, option("Output", "--json", help="Print the table as JSON.")] = False
    quiet: Quiet = False


@dataclass(frozen=True)
class ScoreOptions:
    """All that is said of scores on a file of annotations."""

    asked: PromptOptions
    sams: SamOptions
    rules: RuleOptions
    shown: ReportOptions
    again: ResumeOptions
