"""Verbs and groups of verbs: Typer's, with help pages of our own, and names that a shell completes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import typer
from typer import _completion_shared
from typer.core import TyperCommand, TyperGroup

from evsam_cli import pages, say

WIDEST = 100
"""Characters across that are read with ease."""


class Verb(TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _show(self, ctx)


class Group(TyperGroup):
    order: tuple[str, ...] = ()
    """Names of commands in the order in which they are shown, as far as it is not the order in which they came."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: self.commands[name] for name in (*self.order, *self.commands)}

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _show(self, ctx)


def _show(command: Any, context: Any) -> None:
    """Print it: what Click would do with the formatter's text knows no styles."""
    say.styled(lambda width: pages.pieces(pages.page(command, context), min(width, WIDEST)))


def group(help: str, examples: str, *, kind: type[Group] = Group, **settings: Any) -> typer.Typer:
    """A group of verbs."""
    return typer.Typer(cls=kind, no_args_is_help=True, help=help, epilog=examples, rich_markup_mode=None, **settings)


def verb(of: typer.Typer, name: str, examples: str, panel: str | None = None) -> Callable[..., Any]:
    """Make a function the command `name` of a group. examples: lines that are commands, each after one with a comment
    that says what it does."""
    return of.command(name, cls=Verb, epilog=examples, rich_help_panel=panel)


def completing(names: Iterable[str], *, listed: bool = False) -> Callable[[str], list[str]]:
    """What Typer asks for the ends of a word. listed: the word is names with commas between them."""

    def ends(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if listed else ("", "", incomplete)
        return [before + comma + name for name in names if name.startswith(last)]

    return ends


def _complete_at_the_first_key() -> None:
    """zsh reads the script that Typer installs when the first word is to be completed, and is left with a function that
    nobody has called: call it then."""
    scripts = getattr(_completion_shared, "_completion_scripts", {})
    if "zsh" in scripts:
        scripts["zsh"] += '[[ $zsh_eval_context[-1] == loadautofunc ]] && %(complete_func)s "$@"\n'


_complete_at_the_first_key()
