"""`evsam export`: a SAM as files for another back end, kept only if its masks are torch's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evsam_cli import say
from evsam_cli.commands import completing
from evsam_cli.options import option, path
from evsam_cli.options.models import DEVICES, PRECISIONS, Offline
from evsam_cli.options.runs import Output
from pipelines.errors import UsageError
from pipelines.limits import SHARE
from pipelines.sam import BACKENDS, SAMS

FORMATS = [row.name for row in BACKENDS.values() if row.extra]


EXAMPLES = """
# For ONNX Runtime
evsam export efficientvit-sam-l0 -o l0 --format onnx

# In 8 bits, fitted to photos of the kind it will see
evsam export efficientvit-sam-l0 -o l0-int8 --precision int8 --photos photos/

# For OpenVINO
evsam export efficientvit-sam-l0 -o l0-ov --format openvino

# Or without a word about it: the first run exports and checks what it needs
evsam segment photos/ -o out --sam efficientvit-sam-l0 --backend openvino
"""


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help=f"One of {', '.join(SAMS)}.", show_default=False, autocompletion=completing(SAMS)
        ),
    ],
    output: Output,
    format: Annotated[
        str, option(None, "--format", "-f", metavar="NAME", help=", ".join(FORMATS) + ".", offered=FORMATS)
    ] = "onnx",
    precision: Annotated[
        str,
        option(
            None,
            "--precision",
            metavar="NAME",
            help="fp32, bf16, fp16 or int8, as the format has it.",
            offered=(*PRECISIONS, "int8"),
        ),
    ] = "fp32",
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="A .pt or .safetensors checkpoint of MODEL.", parser=path),
    ] = None,
    device: Annotated[
        str,
        option(
            None, "--device", metavar="NAME", help="Where the files will run: auto, cpu, cuda, cuda:1.", offered=DEVICES
        ),
    ] = "auto",
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos",
            metavar="FOLDER",
            help="Photos for the check, at most 64 of them. int8 needs them: it is fitted to every other one and "
            "checked on the rest.",
            show_default="two of ultralytics",
            parser=path,
        ),
    ] = None,
    stability_score_thresh: Annotated[
        float,
        option(
            None,
            "--stability-score-thresh",
            help="Lowest stability score, in torch, of a mask that counts as the worst; 0 for all masks. 0.7 leaves "
            "out those of prompts on nothing, which 8 bits (bf16, int8) change most.",
            within=SHARE,
        ),
    ] = 0.0,
    offline: Offline = False,
) -> None:
    """Export a SAM as encoder and decoder, with the names of the published exports, and check it against torch.

    The files are deleted again if their masks on photos are not torch's; OUT/parity.json says how close they are.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; choose one of: {', '.join(FORMATS)}")
    SAMS.check(model)

    from pipelines.device import pick_device
    from pipelines.export.gate import photographs
    from pipelines.sam.network import SamSource

    shown = {"photos": photographs(photos)}
    if precision == "int8" and photos is not None:
        shown = {
            "calibration": photographs(photos, slice(0, None, 2)),
            "photos": photographs(photos, slice(1, None, 2)),
        }
    parity = (
        BACKENDS[format]
        .load()()
        .export(
            SamSource(SAMS[model], weights, offline or None),
            output,
            device=pick_device(device),
            precision=precision,
            stability=stability_score_thresh,
            **shown,
        )
    )
    share = f"{parity.int8_share:.0%} of the encoder's multiplications by weights"
    in_int8 = f", with {share} in int8" if precision == "int8" else ""
    of_all = f" of the {parity.steady} steady masks, {parity.worst_iou_of_all:.4f} of all" if parity.stability else ""
    say.aside(
        f"Against torch in fp32: mask IoU {parity.mean_iou:.4f} on average over {parity.prompts} prompts on "
        f"{parity.photos} photos, {parity.worst_iou:.4f} at worst{of_all}; the embedding differs by "
        f"{parity.encoder_error:.1e} of its length{in_int8}. Files are in {output}"
    )
