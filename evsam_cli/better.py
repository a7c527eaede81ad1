"""What a run with bundled models says at its end: what better ones cost, and the command that uses them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from pipelines.registry import Row

_OUTPUT = "-o"
_SPELLINGS = {_OUTPUT: (_OUTPUT, "--output"), "--detector": ("--detector", "-d"), "--sam": ("--sam",)}
_DROPPED = ("--resume", "--overwrite", "--offline")
"""Options that are about the run that was, or about fetching nothing."""
_LONGEST = 1000
"""Characters of a command that is repeated: a shell may have put in the names of thousands of photographs."""


def better(models: Mapping[str, Row], output: Path, *, also: Sequence[str] = ()) -> str | None:
    """One line, None where no model is a bundled one that has a better.

    models: flag -> the row that it chose. also: what else the command has to say for the other options to fit.
    """
    bundled = {flag: row for flag, row in models.items() if row.better}
    if not bundled:
        return None
    new = {flag: row.better or "" for flag, row in bundled.items()}
    again = next(path for number in count(2) if not (path := output.with_name(f"{output.name}-{number}")).exists())
    command = repeated(sys.argv[1:], {**new, _OUTPUT: str(again)}, also)
    if len(command) > _LONGEST:
        options = shlex.join([*also, *(part for pair in new.items() for part in pair), _OUTPUT, str(again)])
        command = f"the same command with {options}"
    kind = "models that come" if len(bundled) > 1 else "model that comes"
    return (
        f"Made by {' and '.join(row.name for row in bundled.values())}, the small {kind} with evsam. Better: "
        f"{' and '.join(f'{name} ({_cost(name)})' for name in new.values())}: {command}"
    )


def repeated(arguments: Sequence[str], changes: Mapping[str, str], also: Sequence[str] = ()) -> str:
    """The command line of `arguments` with other values for some options, as a shell takes it."""
    from pipelines.urls import shown_location

    flags = {spelling: flag for flag in changes for spelling in _SPELLINGS[flag]}
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept: list[str] = []
    left = dict(changes)
    given = iter(arguments[:end])
    for argument in given:
        name, value, _ = argument.partition("=")
        if not argument.startswith("--"):
            name, value = argument[:2], argument[2:]
        if flag := flags.get(name):
            if not value:
                next(given, None)
            if flag in left:
                kept += [flag, left.pop(flag)]
        elif argument not in _DROPPED:
            kept.append(argument)
    options = [*also, *(part for pair in left.items() for part in pair)]
    return shlex.join(["evsam", *map(shown_location, kept), *options, *map(shown_location, arguments[end:])])


def _cost(name: str) -> str:
    """Of a model whose weights are called as it is: `246.0 MB to fetch once`."""
    from rich.filesize import decimal

    from weights import store
    from weights.manifest import files

    if store.locate(name):
        return "here already"
    return f"{decimal(sum(file.bytes or file.about_bytes or 0 for file in files(name)), precision=0)} to fetch once"
