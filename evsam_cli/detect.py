"""`evsam detect`: boxes, and no masks."""

from __future__ import annotations

from typing import Annotated

from evsam_cli import finding, options, progress
from evsam_cli.segment import report
from pipelines.errors import UsageError

Save = Annotated[
    list[str],
    options.option("Output", "--save", metavar="KIND,...", help="What to write: boxes, dataset, overlay, jsonl."),
]


def detect(
    sources: options.Sources,
    output: options.Output,
    detector: options.Detector = "objects",
    classes: options.Classes = None,
    conf: options.Conf = 0.25,
    iou: options.Iou = 0.7,
    max_det: options.MaxDet = 300,
    imgsz: options.ImgSize = None,
    texts: finding.Text = None,
    ontology: finding.Ontology = None,
    box_threshold: finding.BoxThreshold = 0.35,
    text_threshold: finding.TextThreshold = 0.25,
    per_phrase: finding.PerPhrase = False,
    nms: finding.Nms = "agnostic",
    max_box_area: finding.MaxBoxArea = 0.95,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    offline: options.Offline = False,
    save: Save = ["boxes,overlay"],  # noqa: B006  Typer reads it, nobody writes it
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    shard: options.Shard = "1/1",
    batch: options.Batch = None,
    max_pixels: options.MaxPixels = 200_000_000,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Find boxes and write them as COCO results, which `evsam segment --boxes` and `evsam evaluate` read.

    evsam detect photos/ -o boxes --detector yolov8n

    evsam detect photos/ -o boxes --detector grounding-dino-swint --text "cat . red car"

    evsam segment photos/ -o out --boxes boxes/coco_boxes.json
    """
    from pipelines.detect import DetectConfig
    from pipelines.detect import detect as run
    from pipelines.detectors import DetectorConfig
    from pipelines.detectors.text import TextConfig
    from pipelines.detectors.text.phrases import parse_phrases
    from pipelines.device import pick_device
    from pipelines.run import RunConfig
    from pipelines.sources import parse_shard

    what: DetectorConfig | TextConfig
    if finding.reads(detector, texts, ontology, classes):
        phrases = parse_phrases(texts or (), ontology)
        what = TextConfig(
            phrases,
            detector,
            box_threshold,
            text_threshold,
            per_phrase,
            nms,
            iou,
            max_box_area,
            max_det,
            precision,
        )
    elif precision != "fp32":
        raise UsageError(f"{detector} runs in fp32 only: drop --precision")
    else:
        what = DetectorConfig(detector, conf, iou, max_det, imgsz, options.split(classes))
    images = RunConfig(
        sources=tuple(sources),
        output=output,
        save=options.split(save),
        batch=batch,
        shard=parse_shard(shard),
        max_pixels=max_pixels,
        resume=resume,
        overwrite=overwrite,
        offline=offline or None,
    )
    with progress.choose(quiet=quiet, as_json=as_json) as watch:
        summary = run(DetectConfig(images, what, pick_device(device)), watch)
    report(summary, output, quiet=quiet or as_json)
