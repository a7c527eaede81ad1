"""Searching folders for the files that a glob means, or that names mean."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pipelines.errors import UsageError
from pipelines.names import Matching, match
from pipelines.outputs import OUTPUTS, files_of
from pipelines.outputs.folder import STATE

Pattern = tuple[str, ...]
"""The parts of a glob; `**` stands for any number of folders, none included."""


def is_pattern(text: str) -> bool:
    """Whether a path, or a part of one, has wildcards."""
    return any(sign in text for sign in "*?[")


def walk(root: Path, output: Path | None, pattern: Pattern = ("**",)) -> Iterator[Path]:
    """Files whose path below `root` matches, hidden ones left out.

    Links are followed; a folder met again is passed over if the same is left to match. The folders that a run wrote
    are entered only where the pattern spells their name.
    """
    shut = os.path.realpath(output) if output else None
    if os.path.realpath(root) == shut:
        raise UsageError(f"the output folder {str(output)!r} is also searched for images: choose another one")

    def refuse(error: OSError) -> None:
        raise UsageError(f"cannot search the folder {error.filename!r}: {error.strerror}")

    left = {root: _readings(pattern)}
    entered = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        patterns = left.pop(Path(folder))
        visit = os.path.realpath(folder), patterns
        if visit[0] == shut or visit in entered:
            folders.clear()
            continue
        entered.add(visit)
        spelled = frozenset(each for each in patterns if each and not is_pattern(each[0]))
        written = _written(folder, folders)
        inner = {
            name: _rests(spelled if name in written else patterns, name)
            for name in sorted(folders)
            if not name.startswith(".")
        }
        folders[:] = [name for name, rests in inner.items() if any(rests)]
        left.update({Path(folder, name): inner[name] for name in folders})
        for name in sorted(files):
            if not name.startswith(".") and () in _rests(patterns, name):
                yield Path(folder, name)


def find_files(folder: Path, names: Sequence[str]) -> Matching:
    """The files below `folder` that names of files below it mean: name -> path below `folder`.

    Where all are there as they are written, nothing else is looked at. In a folder that is none, there are none. Raises
    UsageError when the folder cannot be searched.
    """
    if all(os.path.isfile(folder / name) for name in names):  # noqa: PTH113  a third of the time of Path's
        return Matching({name: name for name in names}, {})
    files = walk(folder, None) if folder.is_dir() else ()
    return match(names, (path.relative_to(folder).as_posix() for path in files))


def _readings(pattern: Pattern) -> frozenset[Pattern]:
    """The pattern, and what it becomes when a leading `**` stands for no folder at all."""
    return frozenset({pattern}) | (_readings(pattern[1:]) if pattern[:1] == ("**",) else frozenset())


def _rests(patterns: frozenset[Pattern], name: str) -> frozenset[Pattern]:
    """What each pattern leaves of itself to the path below `name`; () where nothing is left to match."""
    matching = (pattern for pattern in patterns if pattern and fnmatchcase(name, pattern[0]))
    rests = (pattern if pattern[0] == "**" else pattern[1:] for pattern in matching)
    return frozenset(reading for rest in rests for reading in _readings(rest))


def _written(folder: str, folders: Sequence[str]) -> set[str]:
    """Names of what a run writes into `folder`, nothing when there was none."""
    return {path.name for path in files_of(Path(folder), OUTPUTS)} if STATE in folders else set()
