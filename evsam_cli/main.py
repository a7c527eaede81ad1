"""The `evsam` command and its verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from evsam_cli import (
    benchmark,
    compare,
    detect,
    doctor,
    evaluate,
    everything,
    export,
    merge,
    say,
    segment,
    text,
    train,
    weights,
)

app = typer.Typer(
    name="evsam",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Boxes in, masks out: detector-prompted instance segmentation with EfficientViT-SAM.

    Start with: evsam segment PHOTOS -o OUT

    Exit codes: 0 all done, 1 some images failed, 2 the command or the machine is not right, 130 interrupted.""",
)
app.command("segment")(segment.segment)
app.command("text")(text.text)
app.command("everything")(everything.everything)
app.command("detect")(detect.detect)
app.command("merge")(merge.merge)
app.command("doctor")(doctor.doctor)
app.add_typer(evaluate.app, name="evaluate")
app.command("compare")(compare.compare)
app.command("benchmark")(benchmark.benchmark)
app.command("export")(export.export)
app.add_typer(train.app, name="train")
app.add_typer(weights.app, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say.result(f"evsam {version('evsam')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
