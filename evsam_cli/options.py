"""Options that several verbs share. Allowed names come from the registries, so help cannot drift from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.detectors import DETECTORS
from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.errors import UsageError
from pipelines.outputs import OUTPUTS
from pipelines.sam import BACKENDS, SAMS


def split(values: list[str] | None) -> tuple[str, ...]:
    """Comma-separated and repeated values as one tuple, in order, each once."""
    parts = (part.strip() for value in values or () for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def size(text: str | None) -> int | None:
    """Bytes, of `512MB` or `4GB`. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT])i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{text!r} is no amount of memory: say 512MB or 4GB")
    return int(float(match[1]) * 1024 ** (1 + "KMGT".index(match[2].upper())))


def option(panel: str, *names: str, help: str, **settings: Any) -> Any:
    """A `typer.Option` in one of the help page's panels."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **settings)


_KINDS = " ".join(f"{row.name}: {row.summary}." for row in OUTPUTS.values())

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="An image, a folder (searched recursively), a glob in quotes, a .txt list of paths or URLs, a URL, "
        "or - for a list on standard input.",
        show_default=False,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Folder to write to.", show_default=False)]

Detector = Annotated[
    str,
    option(
        "Boxes",
        "--detector",
        "-d",
        metavar="NAME|FILE",
        help=f"Where boxes come from: {', '.join(DETECTORS)}; a .pt / .onnx of an ultralytics detection model; "
        f"or, with --text, {', '.join(TEXT_DETECTORS)}.",
    ),
]
Classes = Annotated[
    list[str] | None,
    option("Boxes", "--classes", metavar="NAME|ID,...", help="Keep only these classes, for example person,dog."),
]
Conf = Annotated[float, option("Boxes", "--conf", help="Lowest detector score to keep.", min=0, max=1)]
Iou = Annotated[float, option("Boxes", "--iou", help="Boxes of a class that overlap more are one.", min=0, max=1)]
MaxDet = Annotated[int, option("Boxes", "--max-det", help="Most boxes per image.", min=1)]
ImgSize = Annotated[
    int | None,
    option(
        "Boxes",
        "--imgsz",
        help="Longest side, in pixels, that the detector sees. Default: what it was trained at.",
        min=32,
        show_default=False,
    ),
]

BoxFile = Annotated[
    Path | None,
    option(
        "Boxes",
        "--boxes",
        metavar="FILE",
        help="Boxes from a file, not a detector: COCO results, COCO ground truth or CSV.",
    ),
]
BoxFormat = Annotated[
    str | None,
    option(
        "Boxes",
        "--box-format",
        metavar="FORMAT",
        help="How --boxes counts, if the file does not say: xyxy, xywh or cxcywh, in pixels or with -normalised.",
    ),
]
MinScore = Annotated[float | None, option("Boxes", "--min-score", help="Lowest score to take from --boxes.")]
Boxes = Annotated[
    list[str] | None, option("Boxes", "--box", metavar="X1,Y1,X2,Y2", help="A box in pixels; repeat for more.")
]
Points = Annotated[
    list[str] | None,
    option(
        "Boxes",
        "--point",
        metavar="X,Y[,0]",
        help="A click on the object, or off it with a third 0; all clicks together name one object.",
    ),
]

Sam = Annotated[str, option("Models", "--sam", metavar="NAME", help=f"What makes the masks: {', '.join(SAMS)}.")]
SamWeights = Annotated[
    Path | None,
    option(
        "Models", "--weights", metavar="PATH", help="A .pt or .safetensors checkpoint for --sam, or an exported folder."
    ),
]
Device = Annotated[
    str, option("Models", "--device", help="auto, cpu, cuda, cuda:1 or mps. auto: CUDA where there is one.")
]
Precision = Annotated[
    str,
    option(
        "Models",
        "--precision",
        help="fp32; or, faster where the machine has it, bf16, and on a GPU fp16.",
    ),
]
Backend = Annotated[
    str,
    option(
        "Models",
        "--backend",
        metavar="NAME",
        help="What runs the SAM: "
        + "; ".join(f"{row.name}, {row.summary}" for row in BACKENDS.values())
        + ". What is not exported yet is exported and checked first.",
    ),
]
MaxMemory = Annotated[
    str | None,
    option(
        "Models",
        "--max-memory",
        metavar="SIZE",
        help="Decode fewer prompts at once to stay below, such as 4GB, on the device. Default: what is free.",
    ),
]
Offline = Annotated[
    bool, option("Models", "--offline", help="Never touch the network for weights; also EVSAM_OFFLINE=1.")
]

Save = Annotated[list[str], option("Output", "--save", metavar="KIND,...", help=f"What to write. {_KINDS}")]
Quiet = Annotated[bool, option("Output", "--quiet", "-q", help="Print errors only.")]
Json = Annotated[bool, option("Output", "--json", help="Print one JSON line per image on standard output.")]

Resume = Annotated[bool, option("Long runs", "--resume", help="Go on with the run in OUT where it stopped.")]
Overwrite = Annotated[bool, option("Long runs", "--overwrite", help="Start anew although OUT holds a run.")]
Shard = Annotated[
    str,
    option("Long runs", "--shard", metavar="I/N", help="Do the I-th of N parts; join them with `evsam merge`."),
]
Batch = Annotated[
    int | None,
    option(
        "Long runs",
        "--batch",
        help="Images detected at once. Default: what suits the device.",
        min=1,
        show_default=False,
    ),
]
MaxPixels = Annotated[
    int, option("Long runs", "--max-pixels", help="Refuse larger images: decompression bombs.", min=1)
]
