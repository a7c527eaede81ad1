"""`evsam evaluate`: how good are the masks?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evsam_cli import options, progress
from pipelines.detectors import DETECTORS
from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.errors import UsageError
from pipelines.evaluation.protocols import PROTOCOLS
from pipelines.sam import SAMS

if TYPE_CHECKING:
    from pipelines.evaluation.evaluate import EvaluationConfig
    from pipelines.evaluation.prompts import Prompting

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Score detector and SAM combinations under published protocols.\n\n"
        "Every score is stamped with how it was made, and OUT/report.html shows what it is made of."
    ),
)

_RULES = "; ".join(f"{row.name}: {row.summary}" for row in PROTOCOLS.values())
_PROMPTS, _SCORING = "Boxes", "Scoring"

Annotations = Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="The annotation file.", show_default=False)]
Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="FOLDER", help="Folder that the file names of the annotations are below."),
]
GtBoxes = Annotated[bool, options.option(_PROMPTS, "--gt-boxes", help="The boxes of the annotated objects.")]
Clicks = Annotated[
    list[str] | None,
    options.option(_PROMPTS, "--clicks", metavar="N,...", help="So many simulated clicks per object: 1,3,5."),
]
Detectors = Annotated[
    list[str] | None,
    options.option(
        _PROMPTS,
        "--detector",
        "-d",
        metavar="NAME|FILE,...",
        help=f"Boxes of detectors: {', '.join(DETECTORS)}, a .pt / .onnx of ultralytics, or one that is asked for the "
        f"category names: {', '.join(TEXT_DETECTORS)}.",
    ),
]
BoxFiles = Annotated[
    list[Path] | None,
    options.option(_PROMPTS, "--boxes", metavar="FILE", help="All boxes of a file, as the published sources; repeat."),
]
Results = Annotated[
    list[Path] | None,
    options.option(_PROMPTS, "--results", metavar="FILE", help="No model: score this COCO results file; repeat."),
]
Conf = Annotated[float, options.option(_PROMPTS, "--conf", help="Lowest score of --detector.", min=0, max=1)]
Iou = Annotated[float, options.option(_PROMPTS, "--iou", help="Its boxes that overlap more are one.", min=0, max=1)]
MaxDet = Annotated[
    int | None,
    options.option(
        _PROMPTS, "--max-det", help="Its boxes per image. Default: 300, asked for names 100.", min=1, show_default=False
    ),
]
Sams = Annotated[
    list[str],
    options.option("Models", "--sam", metavar="NAME,...", help=f"What makes the masks: {', '.join(SAMS)}."),
]
Protocol = Annotated[str, options.option(_SCORING, "--protocol", metavar="NAME", help=f"{_RULES}.")]
Agnostic = Annotated[
    bool, options.option(_SCORING, "--class-agnostic", help="Take all classes as one; always so for `objects`.")
]
Boundary = Annotated[bool, options.option(_SCORING, "--boundary", help="Boundary AP of detections too: slower.")]
Limit = Annotated[int | None, options.option(_SCORING, "--limit", help="Only the first images of the file.", min=1)]
Report = Annotated[bool, options.option("Output", "--report/--no-report", help="Write report.html.")]
AsJson = Annotated[bool, options.option("Output", "--json", help="Print the table as JSON.")]


def _of(data_set: str, text: str) -> Callable[..., None]:
    """The command for annotation files of one kind."""

    def command(
        annotations: Annotations,
        output: options.Output,
        images: Images = None,
        gt_boxes: GtBoxes = False,
        clicks: Clicks = None,
        detector: Detectors = None,
        boxes: BoxFiles = None,
        results: Results = None,
        conf: Conf = 0.001,
        iou: Iou = 0.7,
        max_det: MaxDet = None,
        imgsz: options.ImgSize = None,
        sam: Sams = ["evsam-starter"],  # noqa: B006  Typer reads it, nobody writes it
        weights: options.SamWeights = None,
        device: options.Device = "auto",
        precision: options.Precision = "fp32",
        offline: options.Offline = False,
        protocol: Protocol = "efficientvit-sam",
        class_agnostic: Agnostic = False,
        boundary: Boundary = False,
        limit: Limit = None,
        report: Report = True,
        resume: options.Resume = False,
        overwrite: options.Overwrite = False,
        as_json: AsJson = False,
        quiet: options.Quiet = False,
    ) -> None:
        from pipelines.device import pick_device
        from pipelines.evaluation.box_prompts import FileOfBoxes
        from pipelines.evaluation.evaluate import EvaluationConfig, evaluate
        from pipelines.evaluation.prompts import SimulatedClicks, TruthBoxes

        prompts: list[Prompting] = [TruthBoxes()] if gt_boxes else []
        if clicks:
            prompts.append(SimulatedClicks(_numbers(clicks)))
        prompts += _detectors(detector, conf, iou, max_det, imgsz, precision)
        prompts += [FileOfBoxes(path) for path in boxes or ()]
        config = EvaluationConfig(
            annotations=annotations,
            output=output,
            images=images,
            prompts=tuple(prompts),
            sams=options.split(sam),
            weights=weights,
            results=tuple(results or ()),
            data_set=data_set,
            protocol=protocol,
            class_agnostic=class_agnostic,
            boundary=boundary,
            limit=limit,
            device=pick_device(device),
            precision=precision,
            resume=resume,
            overwrite=overwrite,
            offline=offline or None,
            report=report,
        )
        with progress.choose(quiet=quiet or as_json, as_json=False) as watch:
            evaluation = evaluate(config, watch)
        _show(config, evaluation.cells, as_json=as_json, quiet=quiet)
        _end(evaluation.failed)

    command.__doc__ = text
    return command


app.command("coco")(
    _of(
        "coco",
        """Score masks on a COCO data set: mIoU, the 12 COCO numbers, boundaries, mistakes.

        Several ways to prompt and several SAMs make a table; each image is decoded once, searched once per detector and
        encoded once per SAM:

        evsam evaluate coco val2017.json --images val2017/ -o eval --gt-boxes --clicks 1,3,5 --sam efficientvit-sam-l0

        evsam evaluate coco val2017.json --images val2017/ -o eval --detector yolov8m,yolov8x --boxes vitdet.json

        evsam evaluate coco val2017.json -o eval --results out/coco_results.json""",
    )
)
app.command("lvis")(
    _of(
        "lvis",
        """Score masks on LVIS: AP with APr, APc and APf, 300 detections per image; mIoU as on COCO.

        --images is the folder that holds train2017 and val2017:

        evsam evaluate lvis lvis_v1_val.json --images coco/ -o eval --boxes lvis_vitdet.json""",
    )
)


@app.command()
def sginw(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Holds the data sets.", show_default=False)],
    output: options.Output,
    detector: Detectors = ["grounding-dino-swinb"],  # noqa: B006
    conf: Conf = 0.001,
    iou: Iou = 0.7,
    max_det: MaxDet = None,
    imgsz: options.ImgSize = None,
    sam: Sams = ["evsam-starter"],  # noqa: B006
    weights: options.SamWeights = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    offline: options.Offline = False,
    class_agnostic: Agnostic = False,
    report: Report = True,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Score on Segmentation in the Wild: 25 data sets, prompted with their category names; AP of each and the mean.

    evsam evaluate sginw seginw/ -o eval --detector grounding-dino-swinb --sam efficientvit-sam-xl1
    """
    from pipelines.device import pick_device
    from pipelines.evaluation.evaluate import EvaluationConfig
    from pipelines.evaluation.sginw import evaluate_wild, wild_rows

    config = EvaluationConfig(
        annotations=folder,
        output=output,
        prompts=tuple(_detectors(detector, conf, iou, max_det, imgsz, precision)),
        sams=options.split(sam),
        weights=weights,
        class_agnostic=class_agnostic,
        device=pick_device(device),
        precision=precision,
        resume=resume,
        overwrite=overwrite,
        offline=offline or None,
        report=report,
    )
    scores = evaluate_wild(folder, config)
    if as_json:
        typer.echo((output / "sginw.json").read_text("utf-8"), nl=False)
    elif not quiet:
        _table(wild_rows(scores), names=1)
        missing = scores[0].missing
        if missing:
            typer.echo(f"the mean leaves out {len(missing)} of the benchmark's sets: {', '.join(missing)}", err=True)
    _end(scores[0].failed)


@app.command()
def bsds(
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="Folder of .mat files: groundTruth/test.", show_default=False)
    ],
    edges: Annotated[
        Path | None, typer.Option("--edges", metavar="FOLDER", help="Edge maps, by the names of the .mat files.")
    ] = None,
    human: Annotated[bool, typer.Option("--human", help="Score the annotators against one another instead.")] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="How far matched pixels may be apart, over the diagonal.")
    ] = 0.0075,
    workers: Annotated[int, typer.Option("--workers", help="Processes that match in parallel.", min=1)] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="OUT", help="Write OUT/bsds.json.")] = None,
) -> None:
    """Score edge maps on BSDS500: ODS, OIS and AP, 99 thresholds, all annotators.

    evsam everything images/test -o out --prompts edges --sam efficientvit-sam-l0

    evsam evaluate bsds groundTruth/test --edges out/edges --workers 8
    """
    from pipelines.evaluation.bsds import evaluate_edges

    if bool(edges) == human:
        raise UsageError("name the edge maps with --edges FOLDER, or score the annotators with --human")
    document = evaluate_edges(truth, edges, tolerance=tolerance, workers=workers, output=output)
    _values(document["metrics"])


@app.command()
def saliency(
    masks: Annotated[
        Path, typer.Argument(metavar="MASKS", help="Folder of masks, white on black.", show_default=False)
    ],
    maps: Annotated[Path | None, typer.Option("--maps", metavar="FOLDER", help="Maps to be scored.")] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Or: images, prompted with the masks' boxes."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder to write to.")] = None,
    sam: Sams = ["evsam-starter"],  # noqa: B006
    weights: options.SamWeights = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    offline: options.Offline = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Score salient objects: the mean absolute error of maps, or of the masks that SAMs make from the masks' boxes.

    evsam evaluate saliency DUTS-TE-Mask --maps predictions

    evsam evaluate saliency DUTS-TE-Mask --images DUTS-TE-Image -o eval --sam efficientvit-sam-l0
    """
    from pipelines.device import pick_device
    from pipelines.evaluation.saliency import evaluate_maps, evaluate_prompted

    if (maps is None) == (images is None):
        raise UsageError("name either maps to score (--maps FOLDER) or images to prompt SAMs with (--images FOLDER)")
    if maps:
        _values(evaluate_maps(masks, maps, output=output)["metrics"])
        return
    if output is None:
        raise UsageError("prompting SAMs needs a folder to write to: --output OUT")

    from pipelines.evaluation.evaluate import EvaluationConfig
    from pipelines.evaluation.prompts import TruthBoxes

    config = EvaluationConfig(
        annotations=masks,
        output=output,
        images=images,
        prompts=(TruthBoxes(),),
        sams=options.split(sam),
        weights=weights,
        device=pick_device(device),
        precision=precision,
        resume=resume,
        overwrite=overwrite,
        offline=offline or None,
    )
    with progress.choose(quiet=quiet, as_json=False) as watch:
        evaluation, errors = evaluate_prompted(config, watch)
    _values({f"{name} MAE": error for name, error in errors.items()})
    _end(evaluation.failed)


def _numbers(values: list[str]) -> tuple[int, ...]:
    try:
        return tuple(int(value) for value in options.split(values))
    except ValueError:
        raise UsageError(f"{', '.join(values)} are not numbers of clicks: say --clicks 1,3,5") from None


def _detectors(
    names: list[str] | None, conf: float, iou: float, max_det: int | None, imgsz: int | None, precision: str
) -> list[Any]:
    from pipelines.detectors import DetectorConfig
    from pipelines.evaluation.text_prompts import CategoryNames

    return [
        CategoryNames(name, max_det or 100, precision)
        if name in TEXT_DETECTORS
        else DetectorConfig(name, conf, iou, max_det or 300, imgsz)
        for name in options.split(names)
    ]


def _show(config: EvaluationConfig, cells: Sequence[Any], *, as_json: bool, quiet: bool) -> None:
    from pipelines.evaluation.matrix import text_rows

    if as_json:
        typer.echo((config.output / "matrix.json").read_text("utf-8"), nl=False)
    elif not quiet:
        for of_detections in (False, True):
            mine = [cell for cell in cells if cell.scored.of_detections == of_detections]
            if mine:
                _table(text_rows(mine), names=2)
        if config.report:
            typer.echo(f"Report: {config.output / 'report.html'}", err=True)


def _table(rows: Sequence[Sequence[str]], *, names: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], box=None, pad_edge=False)
    for column in table.columns[names:]:
        column.justify = "right"
    for row in rows[1:]:
        table.add_row(*row)
    console = Console()
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    Console(width=max(console.width, needed)).print(table)


def _values(metrics: dict[str, Any]) -> None:
    for name, value in metrics.items():
        typer.echo(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")


def _end(failed: Any) -> None:
    """Say which images failed; exit with 1 when there are any."""
    for name, reason in list(failed.items())[:20]:
        typer.echo(f"failed: {name}: {reason}", err=True)
    if failed:
        typer.echo(f"{len(failed)} images failed; their objects count as missed", err=True)
        raise typer.Exit(1)
