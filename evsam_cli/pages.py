"""Help pages: what a command tells of itself, as text for a terminal and as Markdown for docs/cli.md."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NAMES = 27
"""Characters of the column of names; a longer name has a line to itself."""
HEADING, NAME, ASIDE = "bold", "cyan", "dim"
Piece = tuple[str, str]
"""Text and Rich's style of it."""


@dataclass(frozen=True)
class Entry:
    """An option, an argument or a command: how it is written, and what it means."""

    names: str
    text: str


@dataclass(frozen=True)
class Page:
    """command: its name with those of its groups. text: paragraphs. panels: title -> entries. examples: lines, each a
    command or a comment on the next one."""

    command: str
    usage: str
    text: Sequence[str]
    panels: dict[str, list[Entry]]
    examples: Sequence[str]


def page(command: Any, context: Any) -> Page:
    """What Click's command (or Typer's own kind of it) and its context say."""
    parameters = [parameter for parameter in command.get_params(context) if not getattr(parameter, "hidden", False)]
    panels: dict[str, list[Entry]] = {}
    for name, inner in getattr(command, "commands", {}).items():
        summary = (inner.help or "").partition("\n\n")[0]
        panels.setdefault(_panel(inner, "Commands"), []).append(Entry(name, _line(summary)))
    for parameter in sorted(parameters, key=lambda one: not one.required):
        usual = "Arguments" if _is_argument(parameter) else "Options"
        title = "Required" if parameter.required else _panel(parameter, usual)
        panels.setdefault(title, []).append(Entry(_names(parameter), _meaning(parameter)))
    panels["Options"] = panels.pop("Options")  # the last: it has --help
    return Page(
        context.command_path,
        " ".join([context.command_path, *_usage(command, parameters)]),
        [_line(paragraph) for paragraph in (command.help or "").split("\n\n")],
        panels,
        (command.epilog or "").strip().splitlines(),
    )


def _panel(what: Any, usual: str) -> str:
    title = getattr(what, "rich_help_panel", None)
    return title if isinstance(title, str) else usual


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _line(text: str) -> str:
    return " ".join(text.split())


def _usage(command: Any, parameters: Iterable[Any]) -> Iterator[str]:
    for parameter in parameters:
        if _is_argument(parameter):
            yield _names(parameter) if parameter.required else f"[{_names(parameter)}]"
    for parameter in parameters:
        if not _is_argument(parameter) and parameter.required:
            yield f"{min(parameter.opts, key=len)} {parameter.metavar}"
    yield "[OPTIONS]"
    if hasattr(command, "commands"):
        yield "COMMAND ..."


def _names(parameter: Any) -> str:
    if _is_argument(parameter):
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        names += f" / {parameter.secondary_opts[0]}"
    return names if parameter.is_flag else f"{names} {parameter.metavar}"


def _meaning(parameter: Any) -> str:
    """The help, with the default at its first line's end, in the brackets that may be there; then come choices."""
    text, *choices = (parameter.help or "").splitlines()
    if default := _default(parameter):
        text = f"{text[:-1]}; default: {default}]" if text.endswith("]") else f"{text} [default: {default}]"
    return "\n".join([text, *choices])


def _default(parameter: Any) -> str:
    shown, value = parameter.show_default, parameter.default
    if isinstance(shown, str):
        return shown
    if not shown or value is None or callable(value):
        return ""
    if getattr(parameter, "is_flag", False):
        return str(parameter.opts[0]) if value and parameter.secondary_opts else ""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# On a terminal


def pieces(shown: Page, width: int) -> Iterator[Piece]:
    """The page as text, no line longer than `width`, but for names that are, and examples, which are never broken."""
    yield from _wrapped("Usage: ", shown.usage, width, HEADING)
    for paragraph in shown.text:
        yield "\n", ""
        yield from _wrapped("", paragraph, width)
    names = [_aligned(entry.names) for entries in shown.panels.values() for entry in entries]
    column = max(len(name) for name in names if len(name) <= NAMES)
    for title, entries in shown.panels.items():
        yield f"\n{title}\n", HEADING
        yield from _listed(entries, column, width)
    if shown.examples:
        yield "\nExamples\n", HEADING
        for line in shown.examples:
            yield f"  {line}".rstrip() + "\n", ASIDE if line.startswith("#") else ""


def _wrapped(lead: str, text: str, width: int, style: str = "") -> Iterator[Piece]:
    yield lead, style
    yield f"\n{' ' * len(lead)}".join(_lines(text, width - len(lead))) + "\n", ""


def _lines(text: str, width: int) -> list[str]:
    """Lines of a paragraph, or of a choice, which starts with a dash."""
    hanging = "  " if text.startswith("- ") else ""
    return textwrap.wrap(text, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)


def _listed(entries: Sequence[Entry], column: int, width: int) -> Iterator[Piece]:
    """What names mean, beside them or below."""
    for entry in entries:
        name, aside = _aligned(entry.names), " " * (column + 4)
        lines = [line for part in entry.text.splitlines() for line in _lines(part, width - len(aside))]
        yield f"  {name}", NAME
        if len(name) <= column and lines:
            yield " " * (column + 2 - len(name)) + lines.pop(0), ""
        yield from ((f"\n{aside}{line}", "") for line in lines)
        yield "\n", ""


def _aligned(names: str) -> str:
    """Long options stand behind the short ones of others."""
    return f"    {names}" if names.startswith("--") else names


# As Markdown


def markdown(shown: Page) -> str:
    """A section of the reference."""
    parts = [f"{'#' * (1 + shown.command.count(' '))} `{shown.command}`", *map(_escaped, shown.text)]
    parts.append(f"```console\n$ {shown.usage}\n```")
    for title, entries in shown.panels.items():
        rows = "\n".join(f"* `{entry.names}`: {_escaped(entry.text)}" for entry in entries).replace("\n- ", "\n  - ")
        parts.append(f"**{title}**\n\n{rows}")
    if shown.examples:
        parts.append("**Examples**\n\n```console\n{}\n```".format("\n".join(shown.examples)))
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", r"\*")
