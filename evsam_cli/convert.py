"""`evsam convert`: labels of one format become those of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evsam_cli import progress, say
from evsam_cli.options import choices, option, path, split
from evsam_cli.options.grouping import grouped
from evsam_cli.options.labels import ClassNames, parse_class_names
from evsam_cli.options.outputs import OutputOptions
from evsam_cli.options.runs import Output, Overwrite, Quiet
from evsam_cli.results import print_table, show_failures, show_notes
from pipelines.errors import UsageError
from pipelines.labels import LABELS
from pipelines.outputs import OUTPUTS, outputs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = outputs_of("masks")
EXAMPLES = """
# What a run has found, for other tools
evsam convert out -o labels --to labelme,cvat

# YOLO's text files as a COCO file
evsam convert yolo/ -o coco --to dataset

# And what each object has kept of its mask
evsam convert annotations.xml -o yolo --to yolo --split 0.8,0.2 --check
"""


@grouped
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Folder of a run, or a file or folder of labels.",
            show_default=False,
            parser=path,
        ),
    ],
    output: Output,
    *,
    to: Annotated[
        list[str],
        option(
            "Output",
            "--to",
            metavar="KIND,...",
            help=f"What to write, with commas between kinds: {', '.join(KINDS)}.",
            offered=KINDS,
            show_default=False,
        ),
    ],
    form: Annotated[
        str | None,
        option(
            "Labels",
            "--from",
            metavar="FORMAT",
            help=choices("What IN is, where that does not tell itself.", LABELS),
            offered=LABELS,
        ),
    ] = None,
    class_names: ClassNames = None,
    photos: Annotated[
        Path | None,
        option(
            "Labels",
            "--photos",
            metavar="FOLDER",
            help="Where the photos are, if not beside the labels. Kinds that show them need them, and labels that do "
            "not say how large they are.",
            parser=path,
        ),
    ] = None,
    check: Annotated[
        bool, option("Output", "--check", help="Read back what was written: the IoU that objects kept, and the lost.")
    ] = False,
    outputs: OutputOptions,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Convert a run, or labels of YOLO, LabelMe, Pascal VOC, CVAT, Label Studio or COCO, to any kind of output.

    Nothing is segmented again. What cannot be carried is counted.
    """
    from pipelines.convert import ConvertConfig, convert

    kinds = split(to)
    if not kinds:
        raise UsageError("--to names nothing to write")
    for kind in kinds:
        OUTPUTS.check(kind)
    config = ConvertConfig(
        source=source,
        output=output,
        save=kinds,
        output_options=outputs.given(kinds),
        form=form,
        photos=photos,
        names=parse_class_names(class_names),
        overwrite=overwrite,
        check=check,
    )
    with progress.of_stages(quiet=quiet or not say.on_terminal()) as watch:
        summary = convert(config, watch)
    show_notes(summary.notes)
    show_failures(summary.failed)
    if check:
        _print_kept(summary.info["report"]["check"])
    if not quiet:
        counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items())
        say.aside(f"{counts}; {summary.info['report']['objects']} objects. Results are in {output}")
    if summary.failed:
        raise typer.Exit(1)


def _print_kept(kept: Sequence[dict[str, Any]]) -> None:
    rows = [["kind", "of", "objects", "lost", "least IoU", "mean IoU"]]
    for row in kept:
        numbers = (f"{row[key]:.4f}" if row[key] is not None else "-" for key in ("least", "mean"))
        rows.append(
            [row["kind"], row["of"], str(row["objects"]), "-" if row["lost"] is None else str(row["lost"]), *numbers]
        )
    print_table(rows, names=2)
    if unread := [row["kind"] for row in kept if row["lost"] is None]:
        say.aside(f"evsam does not read {', '.join(unread)} back")
