"""Verbs that take groups of options: what the user sees, what the verb gets, and what the pipelines are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.testing import CliRunner

from evsam_cli import options
from evsam_cli.options import models
from evsam_cli.options.detectors import DetectorOptions, TextOptions
from evsam_cli.options.grouping import grouped
from evsam_cli.options.models import ModelOptions
from evsam_cli.options.runs import RunOptions
from evsam_cli.options.scores import RuleOptions
from pipelines import device
from pipelines.detectors import DetectorConfig
from pipelines.detectors.text.contract import TextConfig
from pipelines.detectors.text.phrases import parse_phrases
from pipelines.evaluation.config import EvaluationConfig
from pipelines.run import RunConfig
from pipelines.sam import SamConfig


@dataclass(frozen=True)
class Colours:
    fill: Annotated[str, typer.Option("--fill", help="Inside.")] = "red"
    lines: Annotated[list[str] | None, typer.Option("--line", help="Around.")] = None


@dataclass(frozen=True, kw_only=True)
class Picture:
    colours: Colours
    frame: Annotated[bool, typer.Option("--frame")] = False
    layers: Annotated[list[str], typer.Option("--layer")] = field(default_factory=lambda: ["a"])


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


def test_a_group_may_hold_groups() -> None:
    app, seen = typer.Typer(rich_markup_mode=None), []

    @app.command()
    @grouped
    def paint(*, picture: Picture) -> None:
        seen.append(picture)

    assert CliRunner().invoke(app, ["--fill", "blue", "--frame"]).exit_code == 0
    assert CliRunner().invoke(app, []).exit_code == 0
    assert seen == [
        Picture(colours=Colours("blue"), frame=True, layers=["a"]),
        Picture(colours=Colours(), layers=["a"]),
    ]


def test_without_options_the_configurations_are_as_they_come() -> None:
    assert DetectorOptions().config(TextOptions(), "fp32") == DetectorConfig()
    phrases = parse_phrases(["cat"], None)
    defaults = TextConfig(phrases)
    assert TextOptions(["cat"]).config(TextConfig.model, None, TextConfig.max_det, TextConfig.precision) == defaults
    assert ModelOptions(device="cpu").config(SamConfig.name) == SamConfig()
    out = Path("out")
    run = RunOptions().config(["photo.jpg"], out, options.listed(RunConfig.save), offline=False)
    assert run == RunConfig(("photo.jpg",), out)
    assert vars(RuleOptions()).items() <= vars(EvaluationConfig(Path(), out)).items()
    assert tuple(device.PRECISIONS) == models.PRECISIONS
