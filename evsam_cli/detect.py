"""`evsam detect`: boxes, and no masks."""

from __future__ import annotations

from typing import Annotated

from evsam_cli.options import listed, option
from evsam_cli.options.detectors import DetectorOptions, TextOptions
from evsam_cli.options.grouping import grouped
from evsam_cli.options.models import Device, Offline, Precision
from evsam_cli.options.runs import Output, RunOptions, Sources
from pipelines.detectors import DetectorConfig
from pipelines.detectors.text.contract import TextConfig
from pipelines.errors import UsageError
from pipelines.outputs import outputs_of

KINDS = outputs_of("boxes")
Save = Annotated[
    list[str],
    option(
        "Output",
        "--save",
        metavar="KIND,...",
        help=f"What to write, with commas between kinds: {', '.join(KINDS)}.",
        offered=KINDS,
    ),
]


EXAMPLES = """
# With a detector of 80 classes
evsam detect photos/ -o boxes --detector yolov8n

# What is described in words
evsam detect photos/ -o boxes -d grounding-dino-swint --text "cat . red car"

# The masks of these boxes
evsam segment photos/ -o out --boxes boxes/coco_boxes.json
"""


@grouped
def detect(
    sources: Sources,
    output: Output,
    *,
    detector: DetectorOptions,
    words: TextOptions,
    device: Device = "auto",
    precision: Precision = TextConfig.precision,
    offline: Offline = False,
    save: Save = listed(["boxes", "overlay"]),
    run: RunOptions,
) -> None:
    """Find boxes and write them as COCO results, which `evsam segment --boxes` and `evsam evaluate` read."""
    from pipelines.detect import DetectConfig, detect
    from pipelines.device import pick_device

    what = detector.config(words, precision)
    if precision != "fp32" and isinstance(what, DetectorConfig):
        raise UsageError(f"{what.model} runs in fp32 only: drop --precision")
    images = run.config(sources, output, save, offline=offline)
    config = DetectConfig(images, what, pick_device(device))
    run.show(output, lambda watch: detect(config, watch), detector.own_model())
