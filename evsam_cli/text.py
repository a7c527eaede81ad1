"""`evsam text`: masks of what is described in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from evsam_cli.options import choices, listed, option
from evsam_cli.options.detectors import Iou, MaxDet, TextOptions, precision_of_reader
from evsam_cli.options.grouping import grouped
from evsam_cli.options.models import MaskOptions, ModelOptions, Sam
from evsam_cli.options.runs import Output, RunOptions, Save
from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.detectors.text.contract import TextConfig
from pipelines.errors import UsageError
from pipelines.run import RunConfig
from pipelines.sam import SamConfig

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE... [PHRASES]",
        help="Images, as `evsam segment` takes them, then what to look for in them: phrases separated by . or , or a "
        ".txt file of them. With --text or --ontology there are only images here.",
        show_default=False,
    ),
]


EXAMPLES = """
# Fetch what it needs, once; it then works offline
evsam weights pull grounding-dino-swint

# Cats and red cars
evsam text photos/ "cat . red car" -o out

# What to call what is found, and from which score on
evsam text photos/ -o out --ontology "person=worker,hard hat=helmet@0.4"
"""


@grouped
def text(
    arguments: Words,
    output: Output,
    *,
    words: TextOptions,
    detector: Annotated[
        str,
        option(
            "Boxes",
            "--detector",
            "-d",
            metavar="NAME",
            help=choices("What reads the text.", TEXT_DETECTORS),
            offered=TEXT_DETECTORS,
        ),
    ] = TextConfig.model,
    iou: Iou = TextConfig.iou,
    max_det: MaxDet = TextConfig.max_det,
    sam: Sam = SamConfig.name,
    models: ModelOptions,
    masks: MaskOptions,
    save: Save = listed(RunConfig.save),
    run: RunOptions,
) -> None:
    """Type what you want, get its masks: Grounding DINO finds boxes, a SAM turns each into a mask.

    Once `evsam weights pull grounding-dino-swint` has brought what it needs, it works without a network.
    """
    from pipelines.segment import SegmentConfig, segment

    sources, texts = _split(arguments, words)
    precision = precision_of_reader(models.precision)
    prompts = replace(words, texts=texts).config(detector, iou, max_det, precision)
    images = run.config(sources, output, save, offline=models.offline)
    config = SegmentConfig(images, prompts, models.config(sam, masks.rules(sam)))
    run.show(output, lambda watch: segment(config, watch), models.own_model(sam))


def _split(arguments: list[str], words: TextOptions) -> tuple[list[str], list[str] | None]:
    """Images and phrases: the last argument is the phrases, unless an option has given them."""
    if words.texts or words.ontology:
        return arguments, words.texts
    *sources, last = arguments
    if _exists(last) and not last.lower().endswith(".txt"):
        raise UsageError(f'what to look for is missing: add it after {last}, such as "cat . red car"')
    if not sources:
        raise UsageError(f"no images: name them before {last!r}, which is what to look for")
    return sources, [last]


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # too long for a name, but not for phrases
        return False
