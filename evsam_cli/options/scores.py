"""Options of the verbs of `evsam evaluate`: what is prompted and how, and whose rules score it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evsam_cli import options
from evsam_cli.options.detectors import ImgSize, precision_of_reader
from evsam_cli.options.models import BOX_MARGIN, SMALL_REGIONS, margin
from pipelines.detectors import DETECTORS, DetectorConfig
from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.evaluation.protocols import PROTOCOLS
from pipelines.limits import COUNT, MANY, SHARE, TIMES
from pipelines.sam import SAMS
from pipelines.sam.rules import MaskRules

if TYPE_CHECKING:
    from pipelines.evaluation.prompts import Prompting

_PROMPTS, _SCORING = "Boxes", "Scoring"
_AS_PUBLISHED = "Unless given, masks are scored as the SAM gives them, whatever its own values are."

Annotations = Annotated[
    Path, typer.Argument(metavar="ANNOTATIONS", help="The annotation file.", show_default=False, parser=options.path)
]
Images = Annotated[
    Path | None,
    options.option(
        "Images",
        "--images",
        metavar="FOLDER",
        help="Folder that the file names of the annotations are below; not needed for --results.",
        parser=options.path,
    ),
]
GtBoxes = Annotated[bool, options.option(_PROMPTS, "--gt-boxes", help="The boxes of the annotated objects.")]
Clicks = Annotated[
    list[str] | None,
    options.option(_PROMPTS, "--clicks", metavar="N,...", help="So many simulated clicks per object: 1,3,5."),
]
Detectors = Annotated[
    list[str] | None,
    options.option(
        _PROMPTS,
        "--detector",
        "-d",
        metavar="NAME|FILE,...",
        help=f"Boxes of detectors: {', '.join(DETECTORS)}, a .pt / .onnx of ultralytics, or one that is asked for the "
        f"category names: {', '.join(TEXT_DETECTORS)}. Names or files with commas between them.",
        offered=(*DETECTORS, *TEXT_DETECTORS),
    ),
]
BoxFiles = Annotated[
    list[Path] | None,
    options.option(
        _PROMPTS,
        "--boxes",
        metavar="FILE",
        help="All boxes of a file, as the published sources; repeat.",
        parser=options.path,
    ),
]
Results = Annotated[
    list[Path] | None,
    options.option(
        _PROMPTS,
        "--results",
        metavar="FILE",
        help="No model: score this COCO results file; repeat.",
        parser=options.path,
    ),
]
Sams = Annotated[
    list[str],
    options.option(
        "Models",
        "--sam",
        metavar="NAME,...",
        help=f"What makes the masks, names with commas between them: {', '.join(SAMS)}.",
        offered=SAMS,
    ),
]
Protocol = Annotated[
    str,
    options.option(
        _SCORING,
        "--protocol",
        metavar="NAME",
        help=options.choices("Whose rules.", PROTOCOLS),
        offered=PROTOCOLS,
    ),
]
Agnostic = Annotated[
    bool, options.option(_SCORING, "--class-agnostic", help="Take all classes as one; always so for `objects`.")
]
Boundary = Annotated[bool, options.option(_SCORING, "--boundary", help="Boundary AP of detections too: slower.")]
Limit = Annotated[
    int | None, options.option(_SCORING, "--limit", help="Only the first images of the file.", within=COUNT)
]
Report = Annotated[bool, options.option("Output", "--report/--no-report", help="Write report.html.")]
AsJson = Annotated[bool, options.option("Output", "--json", help="Print the table as JSON.")]


@dataclass(frozen=True)
class BoxOptions:
    """Which boxes of detectors are taken."""

    conf: Annotated[float, options.option(_PROMPTS, "--conf", help="Lowest score of --detector.", within=SHARE)] = 0.001
    iou: Annotated[
        float, options.option(_PROMPTS, "--iou", help="Its boxes that overlap more are one.", within=SHARE)
    ] = 0.7
    max_det: Annotated[
        int | None,
        options.option(
            _PROMPTS,
            "--max-det",
            help="Its boxes per image.",
            within=MANY,
            show_default="300, asked for names 100",
        ),
    ] = None
    imgsz: ImgSize = None

    def prompts(self, detectors: list[str] | None, precision: str) -> list[Prompting]:
        """What --detector asks for: text detectors by the category names, others as they are."""
        from pipelines.evaluation.text_prompts import CategoryNames

        return [
            CategoryNames(name, self.max_det or 100, precision_of_reader(precision))
            if name in TEXT_DETECTORS
            else DetectorConfig(name, self.conf, self.iou, self.max_det or 300, self.imgsz)
            for name in options.split(detectors)
        ]


@dataclass(frozen=True)
class ScoredMaskOptions:
    """What is done to masks before they are scored: nothing, as protocols have it, unless it is given."""

    box_margin: Annotated[
        str | None,
        options.option("Masks", "--box-margin", metavar="SHARE|none", help=f"{BOX_MARGIN} {_AS_PUBLISHED}"),
    ] = None
    min_mask_region_area: Annotated[
        int,
        options.option("Masks", "--min-mask-region-area", help=f"{SMALL_REGIONS} {_AS_PUBLISHED}", within=TIMES),
    ] = 0

    def rules(self) -> MaskRules:
        """What the SAMs are told. Raises UsageError."""
        return MaskRules(margin(self.box_margin), self.min_mask_region_area)
