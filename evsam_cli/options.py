"""Options that several verbs share. Allowed names come from the registries, so help cannot drift from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.detectors import DETECTORS
from pipelines.outputs import OUTPUTS
from pipelines.registry import Registry
from pipelines.sam import SAMS


def listing(registry: Registry) -> str:
    """The rows of a registry, one a line, for help texts."""
    return "\n\n".join(f"{row.name}: {row.summary}." for row in registry.values())


def split(values: list[str] | None) -> tuple[str, ...]:
    """Comma-separated and repeated values as one tuple, in order, each once."""
    parts = (part.strip() for value in values or () for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="An image, a folder (searched recursively), a glob in quotes, a .txt list of paths or URLs, a URL, "
        "or - for a list on standard input.",
        show_default=False,
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="Folder to write to.", show_default=False)
]
Save = Annotated[
    list[str],
    typer.Option(
        "--save",
        metavar="KIND,...",
        help="What to write; give several with commas or by repeating. " + " ".join(f"[{r.name}] {r.summary}." for r in OUTPUTS.values()),
        rich_help_panel="Output",
    ),
]
Sam = Annotated[
    str,
    typer.Option("--sam", metavar="NAME", help=f"The SAM that makes the masks: {', '.join(SAMS)}.", rich_help_panel="Models"),
]
SamWeights = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="FILE", help="A checkpoint for --sam instead of its own (.pt or .safetensors).", rich_help_panel="Models"
    ),
]
Detector = Annotated[
    str,
    typer.Option(
        "--detector",
        "-d",
        metavar="NAME|FILE",
        help=f"Where boxes come from: {', '.join(DETECTORS)}, or a .pt / .onnx of an ultralytics detection model.",
        rich_help_panel="Boxes",
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--classes", metavar="NAME|ID,...", help="Keep only these classes, for example person,dog.", rich_help_panel="Boxes"
    ),
]
Conf = Annotated[float, typer.Option("--conf", help="Lowest detector score to keep.", min=0, max=1, rich_help_panel="Boxes")]
Iou = Annotated[
    float, typer.Option("--iou", help="Boxes of a class that overlap more are one object.", min=0, max=1, rich_help_panel="Boxes")
]
MaxDet = Annotated[int, typer.Option("--max-det", help="Most boxes per image.", min=1, rich_help_panel="Boxes")]
ImgSize = Annotated[
    int, typer.Option("--imgsz", help="Longest side in pixels at which the detector looks.", min=32, rich_help_panel="Boxes")
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps. auto: CUDA where there is one.", rich_help_panel="Models")
]
Precision = Annotated[
    str,
    typer.Option("--precision", help="fp32 or bf16 (faster where the CPU or GPU has it).", rich_help_panel="Models"),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Never touch the network for weights; also EVSAM_OFFLINE=1.", rich_help_panel="Models"
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in OUT: only what is not finished.", rich_help_panel="Long runs")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start anew although OUT holds a run.", rich_help_panel="Long runs")
]
Shard = Annotated[
    str, typer.Option("--shard", metavar="I/N", help="Work on the I-th of N parts; join them with `evsam merge`.", rich_help_panel="Long runs")
]
Batch = Annotated[
    int | None,
    typer.Option("--batch", help="Images detected at once. Default: what suits the device.", min=1, show_default=False, rich_help_panel="Long runs"),
]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", help="Refuse larger images (decompression bombs).", min=1, rich_help_panel="Long runs")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel="Output")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON line per image on standard output.", rich_help_panel="Output")
]
