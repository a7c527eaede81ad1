"""`make docs`: every help page, as docs/cli.md, and the tables of docs/models.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from evsam_cli import pages
from evsam_cli.main import app
from evsam_cli.model_tables import with_tables


def commands() -> Iterator[tuple[Any, Any]]:
    """Every command of evsam with its context, groups before their own."""
    yield from _below(typer.main.get_command(app), None)


def _below(command: Any, parent: Any) -> Iterator[tuple[Any, Any]]:
    context = typer.Context(command, info_name=command.name, parent=parent, **command.context_settings)
    yield command, context
    for inner in getattr(command, "commands", {}).values():
        yield from _below(inner, context)


def reference() -> str:
    """The pages, one after another."""
    return "\n".join(pages.markdown(pages.page(command, context)) for command, context in commands())


if __name__ == "__main__":
    pages_of_commands, page_of_models = map(Path, sys.argv[1:])
    pages_of_commands.write_text(reference(), encoding="utf-8")
    page_of_models.write_text(with_tables(page_of_models.read_text("utf-8")), encoding="utf-8")
