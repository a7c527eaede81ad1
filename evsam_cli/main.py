"""The `evsam` command: its verbs, and how it ends."""

from __future__ import annotations

import importlib
import signal
import sys
from importlib.util import find_spec
from typing import Annotated, NoReturn

import typer

from evsam_cli import doctor, merge, segment, weights
from pipelines.errors import EvsamError

EXIT_INTERRUPTED = 130

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
app.command("merge")(merge.merge)
app.command("doctor")(doctor.doctor)
app.add_typer(weights.app, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"evsam {version('evsam')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def check_names() -> None:
    """Raise EvsamError when another distribution shadows or overwrote one of evsam's generic package names."""
    for name in ("pipelines", "weights"):
        if getattr(importlib.import_module(name), "OWNER", None) != "evsam":
            spec = find_spec(name)
            raise EvsamError(
                f"the package {name!r} that Python finds ({spec.origin if spec else 'nowhere'}) is not evsam's: "
                "install evsam in an environment of its own, for example with pipx"
            )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; an expected fault is one line on stderr."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        check_names()
        app(standalone_mode=True)
    except EvsamError as error:
        typer.echo(f"evsam: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("evsam: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
