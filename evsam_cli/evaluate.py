"""`evsam evaluate`: how good are the masks?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evsam_cli import progress, say
from evsam_cli.commands import group, verb
from evsam_cli.options import listed, option, path
from evsam_cli.options.grouping import grouped
from evsam_cli.options.runs import Output, Quiet, ResumeOptions
from evsam_cli.options.scores import (
    Agnostic,
    Annotations,
    BoxOptions,
    Detectors,
    ReportOptions,
    SamOptions,
    ScoreOptions,
)
from evsam_cli.results import end, print_table, print_values
from pipelines.errors import UsageError
from pipelines.evaluation.config import EvaluationConfig, TruthBoxes
from pipelines.evaluation.protocols import EDGE_TOLERANCE
from pipelines.limits import FEW, SHARE

app = group(
    """Score detector and SAM combinations under published protocols.

    Every score is stamped with how it was made, and OUT/report.html shows what it is made of.""",
    """
# The bundled SAM on COCO, prompted with the boxes of the annotations
evsam evaluate coco val.json --images val/ -o eval --gt-boxes
""",
)


@verb(
    app,
    "coco",
    """
# With the boxes of the annotations, and with clicks
evsam evaluate coco val.json --images val/ -o eval --gt-boxes --clicks 1,3

# A detector and a file of boxes
evsam evaluate coco val.json --images val/ -o eval -d yolov8m --boxes b.json

# Results that are there already
evsam evaluate coco val.json -o eval --results out/coco_results.json
""",
)
@grouped
def coco(annotations: Annotations, output: Output, *, said: ScoreOptions) -> None:
    """Score masks on a COCO data set: mIoU, the 12 COCO numbers, boundaries, mistakes.

    Several ways to prompt and several SAMs make a table; each image is decoded once, searched once per detector and
    encoded once per SAM.
    """
    _score("coco", annotations, output, said)


@verb(
    app,
    "lvis",
    """
# The boxes of a detector's published results
evsam evaluate lvis lvis_val.json --images coco/ -o eval --boxes vitdet.json
""",
)
@grouped
def lvis(annotations: Annotations, output: Output, *, said: ScoreOptions) -> None:
    """Score masks on LVIS: AP with APr, APc and APf, 300 detections per image; mIoU as on COCO.

    --images is the folder that holds train2017 and val2017.
    """
    _score("lvis", annotations, output, said)


def _score(data_set: str, annotations: Path, output: Path, said: ScoreOptions) -> None:
    from pipelines.evaluation.evaluate import evaluate
    from pipelines.evaluation.matrix import tables, text_rows

    config = EvaluationConfig(
        annotations=annotations,
        output=output,
        images=said.asked.images,
        prompts=said.asked.prompts(said.sams.models.precision),
        sams=said.sams.configs(),
        results=tuple(said.asked.results or ()),
        data_set=data_set,
        offline=said.sams.offline,
        report=said.shown.report,
        **vars(said.rules),
        **vars(said.again),
    )
    with progress.choose(quiet=said.shown.quiet or said.shown.as_json, as_json=False) as watch:
        evaluation = evaluate(config, watch)
    if said.shown.as_json:
        say.document(json.loads((output / "matrix.json").read_text("utf-8")), indent=1)
    elif not said.shown.quiet:
        for cells in tables(evaluation.cells):
            print_table(text_rows(cells), names=2)
        if config.report:
            say.aside(f"Report: {output / 'report.html'}")
    end(evaluation.failed, evaluation.notes)


@verb(
    app,
    "sginw",
    """
# Text detector and SAM on all data sets in a folder
evsam evaluate sginw seginw/ -o eval --sam efficientvit-sam-xl1
""",
)
@grouped
def sginw(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Holds the data sets.", show_default=False, parser=path)
    ],
    output: Output,
    *,
    detector: Detectors = listed(["grounding-dino-swinb"]),
    taken: BoxOptions,
    sams: SamOptions,
    class_agnostic: Agnostic = False,
    shown: ReportOptions,
    again: ResumeOptions,
) -> None:
    """Score on Segmentation in the Wild: 25 data sets, prompted with their category names; AP of each and the mean."""
    from pipelines.evaluation.sginw import evaluate_wild, wild_rows

    config = EvaluationConfig(
        annotations=folder,
        output=output,
        prompts=tuple(taken.prompts(detector, sams.models.precision)),
        sams=sams.configs(),
        class_agnostic=class_agnostic,
        offline=sams.offline,
        report=shown.report,
        **vars(again),
    )

    def announce(name: str) -> progress.Quiet:
        if not shown.quiet:
            say.aside(name)
        return progress.Quiet()

    scores = evaluate_wild(folder, config, announce)
    if shown.as_json:
        say.document(json.loads((output / "sginw.json").read_text("utf-8")), indent=1)
    elif not shown.quiet:
        print_table(wild_rows(scores), names=1)
        missing = scores[0].missing
        if missing:
            say.aside(f"the mean leaves out {len(missing)} of the benchmark's sets: {', '.join(missing)}")
    end(scores[0].failed, scores[0].notes)


@verb(
    app,
    "bsds",
    """
# Make edge maps, and score them on eight cores
evsam everything images/test -o out --prompts edges --sam efficientvit-sam-l0
evsam evaluate bsds groundTruth/test --edges out/edges --workers 8

# How well annotators agree
evsam evaluate bsds groundTruth/test --human
""",
)
def bsds(
    truth: Annotated[
        Path,
        typer.Argument(
            metavar="TRUTH", help="Folder of .mat files: groundTruth/test.", show_default=False, parser=path
        ),
    ],
    edges: Annotated[
        Path | None,
        typer.Option("--edges", metavar="FOLDER", help="Edge maps, by the names of the .mat files.", parser=path),
    ] = None,
    human: Annotated[bool, typer.Option("--human", help="Score the annotators against one another instead.")] = False,
    tolerance: Annotated[
        float, option(None, "--tolerance", help="How far matched pixels may be apart, over the diagonal.", within=SHARE)
    ] = EDGE_TOLERANCE,
    workers: Annotated[int, option(None, "--workers", help="Processes that match in parallel.", within=FEW)] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Write OUT/bsds.json.", parser=path)
    ] = None,
) -> None:
    """Score edge maps on BSDS500: ODS, OIS and AP, 99 thresholds, all annotators."""
    from pipelines.evaluation.bsds import evaluate_edges

    if bool(edges) == human:
        raise UsageError("name the edge maps with --edges FOLDER, or score the annotators with --human")
    document = evaluate_edges(truth, edges, tolerance=tolerance, workers=workers, output=output)
    print_values(document["metrics"])
    end({}, document["notes"])


@verb(
    app,
    "saliency",
    """
# Maps that are there already
evsam evaluate saliency DUTS-TE-Mask --maps predictions

# Masks of SAMs, prompted with the boxes of the true ones
evsam evaluate saliency DUTS-TE-Mask --images DUTS-TE-Image -o eval
""",
)
@grouped
def saliency(
    masks: Annotated[
        Path, typer.Argument(metavar="MASKS", help="Folder of masks, white on black.", show_default=False, parser=path)
    ],
    *,
    maps: Annotated[
        Path | None, typer.Option("--maps", metavar="FOLDER", help="Maps to be scored.", parser=path)
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Or: images, prompted with the masks' boxes.", parser=path),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder to write to.", parser=path)
    ] = None,
    sams: SamOptions,
    again: ResumeOptions,
    quiet: Quiet = False,
) -> None:
    """Score salient objects: the mean absolute error of maps, or of the masks that SAMs make from the masks' boxes."""
    from pipelines.evaluation.saliency import evaluate_maps, evaluate_prompted

    if (maps is None) == (images is None):
        raise UsageError("name either maps to score (--maps FOLDER) or images to prompt SAMs with (--images FOLDER)")
    if maps:
        document = evaluate_maps(masks, maps, output=output)
        print_values(document["metrics"])
        end({}, document["notes"])
        return
    if output is None:
        raise UsageError("prompting SAMs needs a folder to write to: --output OUT")

    config = EvaluationConfig(
        annotations=masks,
        output=output,
        images=images,
        prompts=(TruthBoxes(),),
        sams=sams.configs(),
        offline=sams.offline,
        **vars(again),
    )
    with progress.choose(quiet=quiet, as_json=False) as watch:
        evaluation, errors = evaluate_prompted(config, watch)
    print_values({f"{name} MAE": error for name, error in errors.items()})
    end(evaluation.failed, evaluation.notes)
