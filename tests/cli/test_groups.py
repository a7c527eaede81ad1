"""Verbs that take groups of options: what the user sees, and what the verb gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.testing import CliRunner

from evsam_cli.options.grouping import grouped


@dataclass(frozen=True)
class Colours:
    fill: Annotated[str, typer.Option("--fill", help="Inside.")] = "red"
    lines: Annotated[list[str] | None, typer.Option("--line", help="Around.")] = None


def paint_app() -> tuple[typer.Typer, list[Any]]:
    app, seen = typer.Typer(rich_markup_mode=None), []

    @app.command()
    @grouped
    def paint(
        name: Annotated[str, typer.Argument()],
        *,
        first: Annotated[int, typer.Option("--first")] = 1,
        colours: Colours,
        last: Annotated[bool, typer.Option("--last")] = False,
    ) -> None:
        """Paint it."""
        seen.append((name, first, colours, last))

    return app, seen


def test_a_verb_gets_its_group_filled() -> None:
    app, seen = paint_app()
    for arguments in (["a"], ["b", "--line", "x", "--line", "y", "--fill", "blue", "--last"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    assert seen == [("a", 1, Colours(), False), ("b", 1, Colours("blue", ["x", "y"]), True)]


def test_help_lists_the_fields_where_the_group_is() -> None:
    out = CliRunner().invoke(paint_app()[0], ["--help"]).output
    places = [out.index(text) for text in ("Paint it.", "--first", "--fill", "--line", "--last")]
    assert places == sorted(places)
    assert "Inside." in out and "red" in out and "colours" not in out
