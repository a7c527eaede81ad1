"""Options that several verbs share, a file for each subject. Here is how an option is made, and how its text is read.

Allowed names come from the registries and defaults from the configurations, so help cannot drift from them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from evsam_cli.commands import completing
from pipelines.errors import UsageError
from pipelines.limits import MANY, Limits
from pipelines.printable import brief
from pipelines.registry import Registry


def split(values: list[str] | None) -> tuple[str, ...]:
    """Comma-separated and repeated values as one tuple, in order, each once."""
    parts = (part.strip() for value in values or () for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def numbers(flag: str, values: list[str] | None) -> tuple[int, ...]:
    """Comma-separated and repeated whole numbers, each once. Raises UsageError."""
    try:
        return tuple(map(int, split(values)))
    except ValueError:
        given = ", ".join(values or ())
        raise UsageError(f"{flag} takes whole numbers with commas between them, not {brief(given)}") from None


def path(text: str) -> Path:
    """The path that an argument names. An empty text, such as a shell variable that is not set, is none."""
    if not text:
        raise typer.BadParameter("it is empty: was a shell variable not set?")
    return Path(text)


def option(
    panel: str | None,
    *names: str,
    help: str,
    within: Limits | None = None,
    offered: Iterable[str] = (),
    **settings: Any,
) -> Any:
    """A `typer.Option` in one of the help page's panels. within: what its number may be, which its help ends with;
    offered: names that shells complete."""
    if within is not None:
        settings = {"metavar": "NUMBER", "parser": number(within)} | settings
        help = f"{help} [{kind(within)}]"
    if offered:
        settings["autocompletion"] = completing(offered, listed=settings["metavar"].endswith(",..."))
    return typer.Option(*names, help=help, rich_help_panel=panel, **settings)


def listed(values: Iterable[object]) -> list[str]:
    """The default of an option that takes several."""
    return list(map(str, values))


def by_model(values: Mapping[str, object], usual: object = None) -> str:
    """What is shown as the default of an option that models have values of their own for: `objects 0.1, others 0.25`.

    values: by model; usual: that of the others, None for what most of these have.
    """
    usual = Counter(values.values()).most_common(1)[0][0] if usual is None else usual
    own = [f"{name} {value}" for name, value in values.items() if value != usual]
    return ", ".join([*own, f"others {usual}" if own else f"{usual}"])


def kind(limits: Limits) -> str:
    """What a number may be, in words."""
    number = "a whole number" if isinstance(limits.most, int) else "a number"
    if limits.most <= MANY.most:
        return f"{number} from {limits.least:g} to {limits.most:.0f}"
    return number if limits.least < 0 else f"{number}, {limits.least:g} or more"


def choices(lead: str, rows: Registry[Any]) -> str:
    """Help with a line for each row of a table."""
    return "\n".join([lead, *(f"- {row.name}: {row.summary}." for row in rows.values())])


def number(limits: Limits) -> Callable[[Any], Any]:
    """What reads an option's number. Typer's own comparisons let nan through, and its words are a programmer's."""
    whole = isinstance(limits.most, int)

    def read(text: Any) -> Any:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = math.nan
        if not limits.least <= value <= limits.most:
            raise typer.BadParameter(f"{brief(text)} is no {'whole ' if whole else ''}number {limits.words}")
        return value

    return read
