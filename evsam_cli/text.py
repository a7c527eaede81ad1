"""`evsam text`: masks of what is described in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evsam_cli import finding, options, progress
from evsam_cli.segment import report
from pipelines.errors import UsageError

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE... [PHRASES]",
        help="Images, as `evsam segment` takes them, then what to look for in them: phrases separated by . or , or a "
        ".txt file of them. With --text or --ontology there are only images here.",
        show_default=False,
    ),
]


def text(
    arguments: Words,
    output: options.Output,
    texts: finding.Text = None,
    ontology: finding.Ontology = None,
    detector: finding.TextDetector = finding.DEFAULT,
    box_threshold: finding.BoxThreshold = 0.35,
    text_threshold: finding.TextThreshold = 0.25,
    per_phrase: finding.PerPhrase = False,
    nms: finding.Nms = "agnostic",
    iou: options.Iou = 0.7,
    max_box_area: finding.MaxBoxArea = 0.95,
    max_det: options.MaxDet = 300,
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
    """Type what you want, get its masks: Grounding DINO finds boxes, a SAM turns each into a mask.

    evsam text photos/ "cat . red car" -o out

    evsam text photos/ -o out --ontology "person in red=worker,hard hat=helmet@0.4"

    Once `evsam weights pull grounding-dino-swint` has brought what it needs, it works without a network.
    """
    from pipelines.detectors.text import TextConfig
    from pipelines.detectors.text.phrases import parse_phrases
    from pipelines.device import pick_device
    from pipelines.run import RunConfig
    from pipelines.sam import SamConfig
    from pipelines.segment import SegmentConfig, segment
    from pipelines.sources import parse_shard

    sources, texts = _split(arguments, texts, ontology)
    prompts = TextConfig(
        parse_phrases(texts or (), ontology),
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
    images = RunConfig(
        sources=sources,
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
        summary = segment(SegmentConfig(images, prompts, model), watch)
    report(summary, output, quiet=quiet or as_json)


def _split(
    arguments: list[str], texts: list[str] | None, ontology: str | None
) -> tuple[tuple[str, ...], list[str] | None]:
    """Images and phrases: the last argument is the phrases, unless an option has given them."""
    if texts or ontology:
        return tuple(arguments), texts
    *sources, last = arguments
    if _exists(last) and not last.lower().endswith(".txt"):
        raise UsageError(f'what to look for is missing: add it after {last}, such as "cat . red car"')
    if not sources:
        raise UsageError(f"no images: name them before {last!r}, which is what to look for")
    return tuple(sources), [last]


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # too long for a name, but not for phrases
        return False
