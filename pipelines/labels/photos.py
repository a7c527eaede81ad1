"""The photographs of labels: which there are in a folder, and which is whose."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipelines.errors import ImageError
from pipelines.images.header import upright_size
from pipelines.images.sources import IMAGE_EXTENSIONS
from pipelines.labels import Asked
from pipelines.labels.files import label_files
from pipelines.names import pair

_SUFFIXES = tuple(IMAGE_EXTENSIONS)


class Photos:
    """Those below a folder; deep: also in its sub-folders."""

    def __init__(self, folder: Path, *, deep: bool = True) -> None:
        self._folder = folder
        if deep:
            self._names = [file.relative_to(folder).as_posix() for file in label_files(folder, _SUFFIXES)]
        else:
            self._names = sorted(entry.name for entry in os.scandir(folder) if _is_photo(entry))
        self._taken: set[str] = set()

    def beside(self, names: Sequence[str]) -> dict[str, Path]:
        """The photo of each label file that has one: for `a.txt` there is `a.jpg`, see `pipelines.names.pair`."""
        found = {theirs: mine for mine, theirs in pair(self._names, names).found.items()}
        self._taken.update(found.values())
        return {name: self._folder / photo for name, photo in found.items()}

    def rest(self) -> list[Path]:
        """Those that no label file is beside of."""
        return [self._folder / name for name in self._names if name not in self._taken]


def _is_photo(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(_SUFFIXES) and not entry.name.startswith(".") and entry.is_file()


def size_of_photo(asked: Asked, name: str, file: str, beside: Path | None = None) -> tuple[int, int]:
    """Width and height, upright, of an image of which a file of labels does not say them. beside: the folder of its
    photo, unless one is asked for. Raises ImageError."""
    if known := asked.sizes.get(str(PurePosixPath(name).with_suffix(""))):
        return known
    folder = asked.photos or beside
    if folder is None:
        raise ImageError(f"{file} does not state its size: name the folder of its photo with --photos")
    places = (folder / name, folder / PurePosixPath(name).name)
    return upright_size(next((place for place in places if place.is_file()), places[0]))
