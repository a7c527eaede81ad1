"""The names of everything in a run's output folder: its state, and the files of each output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

STATE = ".evsam"
"""The folder of what a run remembers between kills, see `pipelines.run.folder`."""


def scratch_folder(folder: Path) -> Path:
    """Where a run in `folder` keeps temporary files."""
    return folder / STATE / "scratch"


def image_files(folder: Path, patterns: Iterable[str], stem: str) -> Iterator[Path]:
    """What lies in `folder` of one image's files. patterns: see `Output.of_image`."""
    for pattern in patterns:
        parent, _, last = pattern.rpartition("/")
        if "{}" in last:
            path = folder / pattern.format(stem)
            if path.is_symlink() or path.exists():
                yield path
        else:
            yield from sorted((folder / parent.format(stem)).glob(last))
