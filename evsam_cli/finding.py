"""Options of the verbs that look for what is described in words."""

from __future__ import annotations

from typing import Annotated

from evsam_cli.options import option
from pipelines.detectors.text import NMS, PRECISIONS, TEXT_DETECTORS
from pipelines.errors import UsageError

DEFAULT = "grounding-dino-swint"

TextDetector = Annotated[
    str,
    option(
        "Boxes",
        "--detector",
        "-d",
        metavar="NAME",
        help=f"What reads the text. {' '.join(f'{row.name}: {row.summary}.' for row in TEXT_DETECTORS.values())}",
    ),
]
Text = Annotated[
    list[str] | None,
    option(
        "Text",
        "--text",
        "-t",
        metavar="PHRASES",
        help="What to look for: phrases separated by . or , or a .txt file of them; repeat for more.",
    ),
]
Ontology = Annotated[
    str | None,
    option(
        "Text",
        "--ontology",
        metavar="PHRASE=NAME,...|FILE",
        help="What to call what is found: phrase=name or phrase=name@threshold, separated by commas; or a .toml file "
        'of lines "phrase" = "name" and tables ["phrase"] with category, id and threshold.',
    ),
]
BoxThreshold = Annotated[
    float, option("Text", "--box-threshold", help="Score a box must exceed for one of the phrases.", min=0, max=1)
]
TextThreshold = Annotated[
    float, option("Text", "--text-threshold", help="Score a phrase must exceed to name a box.", min=0, max=1)
]
PerPhrase = Annotated[
    bool,
    option("Text", "--per-phrase", help="Look for each phrase alone: slower, but phrases cannot disturb each other."),
]
Nms = Annotated[
    str,
    option(
        "Text",
        "--nms",
        metavar="|".join(NMS),
        help="Of boxes that overlap by more than --iou, keep the best: of all, of each class, or keep all.",
    ),
]
MaxBoxArea = Annotated[
    float,
    option(
        "Text",
        "--max-box-area",
        help="Drop a box over a larger share of the image if it contains another; 1 drops none.",
        min=0,
        max=1,
    ),
]


def precision_of_reader(precision: str) -> str:
    """The SAM's precision, where a detector that reads has it too, else fp32."""
    return precision if precision in PRECISIONS else "fp32"


def reads(detector: str, texts: list[str] | None, ontology: str | None, classes: list[str] | None) -> bool:
    """Whether the detector named is one that reads. Raises UsageError when it is given what it cannot use."""
    if detector in TEXT_DETECTORS:
        if classes:
            raise UsageError(f"{detector} has no classes to choose from: say what to look for with --text")
        return True
    if texts or ontology:
        raise UsageError(f"{detector} cannot read: for text, add --detector with one of {', '.join(TEXT_DETECTORS)}")
    return False
