"""The `evsam` command and its verbs."""

from __future__ import annotations

from types import ModuleType
from typing import Annotated

import typer

from evsam_cli import (
    benchmark,
    compare,
    convert,
    detect,
    doctor,
    evaluate,
    everything,
    export,
    merge,
    models,
    say,
    segment,
    text,
    train,
    weights,
)
from evsam_cli.commands import Group, group, verb

_PANELS: dict[str, tuple[ModuleType, ...]] = {
    "Segment": (segment, text, everything, detect),
    "Score": (evaluate, compare, benchmark),
    "Train and export": (train, export),
    "Housekeeping": (models, weights, doctor, convert, merge),
}


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


class _Evsam(Group):
    order = tuple(_name(module) for modules in _PANELS.values() for module in modules)


app = group(
    """Boxes in, masks out: detector-prompted instance segmentation with EfficientViT-SAM.

    Exit codes: 0 all done, 1 some images failed, 2 the command or the machine is not right, 130 interrupted.""",
    """
# Try it on your photos, with the models that come with it
evsam segment photos/ -o out

# What a command takes, and more examples
evsam segment --help

# Will it work here? Which better models are there?
evsam doctor
evsam models
""",
    kind=_Evsam,
    name="evsam",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, modules in _PANELS.items():
    for module in modules:
        name = _name(module)
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, rich_help_panel=panel)
        else:
            verb(app, name, module.EXAMPLES, panel)(getattr(module, name))


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
