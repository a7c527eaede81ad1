"""Options of the verbs that look for boxes: with a detector, or for what is described in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from evsam_cli.options import by_model, option, split
from pipelines.detectors import DETECTORS, DetectorConfig, DetectorRow
from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.detectors.text.contract import NMS, PRECISIONS, TextConfig
from pipelines.errors import UsageError
from pipelines.limits import MANY, SHARE, SIDE

Iou = Annotated[float, option("Boxes", "--iou", help="Boxes of a class that overlap more are one.", within=SHARE)]
MaxDet = Annotated[int, option("Boxes", "--max-det", help="Most boxes per image.", within=MANY)]
ImgSize = Annotated[
    int | None,
    option(
        "Boxes",
        "--imgsz",
        help="Longest side, in pixels, that the detector sees.",
        within=SIDE,
        show_default="what it was trained at",
    ),
]


@dataclass(frozen=True)
class TextOptions:
    """What is described in words."""

    texts: Annotated[
        list[str] | None,
        option(
            "Text",
            "--text",
            "-t",
            metavar="PHRASES",
            help="What to look for: phrases separated by . or , or a .txt file of them; repeat for more.",
        ),
    ] = None
    ontology: Annotated[
        str | None,
        option(
            "Text",
            "--ontology",
            metavar="PHRASE=NAME,...|FILE",
            help="What to call what is found: phrase=name or phrase=name@threshold, separated by commas; or a .toml "
            'file of lines "phrase" = "name" and tables ["phrase"] with category, id and threshold.',
        ),
    ] = None
    box_threshold: Annotated[
        float | None,
        option(
            "Text",
            "--box-threshold",
            help="Score a box must exceed for one of the phrases.",
            within=SHARE,
            show_default=by_model({name: row.box_threshold for name, row in TEXT_DETECTORS.items()}),
        ),
    ] = None
    text_threshold: Annotated[
        float | None,
        option(
            "Text",
            "--text-threshold",
            help="Score a phrase must exceed to name a box.",
            within=SHARE,
            show_default=by_model({name: row.text_threshold for name, row in TEXT_DETECTORS.items()}),
        ),
    ] = None
    per_phrase: Annotated[
        bool,
        option(
            "Text", "--per-phrase", help="Look for each phrase alone: slower, but phrases cannot disturb each other."
        ),
    ] = TextConfig.per_phrase
    nms: Annotated[
        str,
        option(
            "Text",
            "--nms",
            metavar="|".join(NMS),
            help="Of boxes that overlap by more than --iou, keep the best: of all, of each class, or keep all.",
            offered=NMS,
        ),
    ] = TextConfig.nms
    max_box_area: Annotated[
        float,
        option(
            "Text",
            "--max-box-area",
            help="Drop a box over a larger share of the image if it contains another; 1 drops none.",
            within=SHARE,
        ),
    ] = TextConfig.max_box_area

    def config(self, detector: str, iou: float | None, max_det: int, precision: str) -> TextConfig:
        """What the pipeline is told. Raises UsageError."""
        from pipelines.detectors.text.phrases import parse_phrases

        return TextConfig(
            parse_phrases(self.texts or (), self.ontology),
            model=detector,
            box_threshold=self.box_threshold,
            text_threshold=self.text_threshold,
            per_phrase=self.per_phrase,
            nms=self.nms,
            iou=TextConfig.iou if iou is None else iou,
            max_box_area=self.max_box_area,
            max_det=max_det,
            precision=precision,
        )


@dataclass(frozen=True)
class DetectorOptions:
    """A detector, which may be one that reads."""

    detector: Annotated[
        str,
        option(
            "Boxes",
            "--detector",
            "-d",
            metavar="NAME|FILE",
            help=f"Where boxes come from: {', '.join(DETECTORS)}; a .pt / .onnx of an ultralytics detection model; "
            f"or, with --text, {', '.join(TEXT_DETECTORS)}.",
            offered=(*DETECTORS, *TEXT_DETECTORS),
        ),
    ] = DetectorConfig.model
    classes: Annotated[
        list[str] | None,
        option(
            "Boxes",
            "--classes",
            metavar="NAME|ID,...",
            help="Keep only these classes; names or ids with commas between them, for example person,dog.",
        ),
    ] = None
    conf: Annotated[
        float | None,
        option(
            "Boxes",
            "--conf",
            help="Lowest detector score to keep.",
            within=SHARE,
            show_default=by_model({name: row.conf for name, row in DETECTORS.items()}),
        ),
    ] = None
    iou: Annotated[
        float | None,
        option(
            "Boxes",
            "--iou",
            help="Boxes of a class that overlap more are one.",
            within=SHARE,
            show_default=by_model({name: row.iou for name, row in DETECTORS.items()}),
        ),
    ] = None
    max_det: MaxDet = DetectorConfig.max_det
    imgsz: ImgSize = None

    def own_model(self) -> dict[str, DetectorRow]:
        """--detector and the row that it chose, unless it is a file or one that reads."""
        return {"--detector": DETECTORS[self.detector]} if self.detector in DETECTORS else {}

    def config(self, words: TextOptions, precision: str) -> DetectorConfig | TextConfig:
        """What the pipeline is told; precision: of a detector that reads. Raises UsageError for what it cannot use."""
        if self.detector in TEXT_DETECTORS:
            if self.classes:
                raise UsageError(f"{self.detector} has no classes to choose from: say what to look for with --text")
            return words.config(self.detector, self.iou, self.max_det, precision)
        if words.texts or words.ontology:
            readers = ", ".join(TEXT_DETECTORS)
            raise UsageError(f"{self.detector} cannot read: for text, add --detector with one of {readers}")
        return DetectorConfig(
            model=self.detector,
            conf=self.conf,
            iou=self.iou,
            max_det=self.max_det,
            imgsz=self.imgsz,
            classes=split(self.classes),
        )


def precision_of_reader(precision: str) -> str:
    """The SAM's precision, where a detector that reads has it too, else fp32."""
    return precision if precision in PRECISIONS else "fp32"
