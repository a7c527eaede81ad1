"""`evsam segment`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evsam_cli import finding, options, progress
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.prompts import PromptConfig
    from pipelines.run import Summary

SHOWN_FAILURES = 20


def segment(
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
    boxes: options.BoxFile = None,
    box_format: options.BoxFormat = None,
    min_score: options.MinScore = None,
    box: options.Boxes = None,
    point: options.Points = None,
    sam: options.Sam = "evsam-starter",
    weights: options.SamWeights = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    backend: options.Backend = "torch",
    max_memory: options.MaxMemory = None,
    offline: options.Offline = False,
    save: options.Save = ["coco,overlay"],  # noqa: B006  Typer reads it, nobody writes it
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    shard: options.Shard = "1/1",
    batch: options.Batch = None,
    max_pixels: options.MaxPixels = 200_000_000,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Segment the objects in images: a detector finds boxes, a SAM turns each into a mask.

    The bundled starter models work at once and offline; better ones are fetched when first named:

    evsam segment photos/ -o out --detector yolov8n --sam efficientvit-sam-l0

    evsam segment photos/ -o out --boxes boxes.json --save coco,ids

    evsam segment dog.jpg -o out --box 60,40,420,300
    """
    from pipelines.detectors import DetectorConfig
    from pipelines.detectors.given import parse_box, parse_point
    from pipelines.detectors.text import TextConfig
    from pipelines.detectors.text.phrases import parse_phrases
    from pipelines.device import pick_device
    from pipelines.prompts import BoxFileConfig, GivenBoxes, GivenPoints
    from pipelines.run import RunConfig
    from pipelines.sam import SamConfig
    from pipelines.segment import SegmentConfig
    from pipelines.segment import segment as run
    from pipelines.sources import parse_shard

    if sum(map(bool, (boxes, box, point))) > 1:
        raise UsageError("--boxes, --box and --point are different ways to prompt: choose one")
    prompts: PromptConfig
    if boxes:
        prompts = BoxFileConfig(str(boxes), box_format, min_score)
    elif box:
        prompts = GivenBoxes(tuple(parse_box(text) for text in box))
    elif point:
        prompts = GivenPoints(tuple(parse_point(text) for text in point))
    elif finding.reads(detector, texts, ontology, classes):
        phrases = parse_phrases(texts or (), ontology)
        prompts = TextConfig(
            phrases,
            detector,
            box_threshold,
            text_threshold,
            per_phrase,
            nms,
            iou,
            max_box_area,
            max_det,
            finding.precision_of_reader(precision),
        )
    else:
        prompts = DetectorConfig(detector, conf, iou, max_det, imgsz, options.split(classes))
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
    model = SamConfig(sam, weights, pick_device(device), precision, backend, options.size(max_memory))
    with progress.choose(quiet=quiet, as_json=as_json) as watch:
        summary = run(SegmentConfig(images, prompts, model), watch)
    report(summary, output, quiet=quiet or as_json)


def report(summary: Summary, output: Path, *, quiet: bool) -> None:
    """Say how the run ended; exit with 1 when images failed."""
    for name, reason in list(summary.failed.items())[:SHOWN_FAILURES]:
        typer.echo(f"failed: {name}: {reason}", err=True)
    if len(summary.failed) > SHOWN_FAILURES:
        typer.echo(f"... and {len(summary.failed) - SHOWN_FAILURES} more, listed in {output / 'run.json'}", err=True)
    if not quiet:
        counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items())
        speed = summary.info["this_run"]["images_per_second"]
        typer.echo(f"{counts} ({speed:.2f} images/s). Results are in {output}", err=True)
    if summary.failed:
        raise typer.Exit(1)
