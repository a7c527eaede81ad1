"""The photographs of labels: which there are in a folder, and which is whose."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipelines.errors import ImageError
from pipelines.images.header import upright_size
from pipelines.images.search import find_files
from pipelines.images.sources import IMAGE_EXTENSIONS
from pipelines.labels import Asked, Labels
from pipelines.labels.files import label_files
from pipelines.names import pair

_SUFFIXES = tuple(IMAGE_EXTENSIONS)
_BESIDE = ("", "images", "photos", "JPEGImages", "../images", "../photos", "../JPEGImages", "..", "../../images")
"""Where photographs are, as seen from the folder of their labels."""


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


def locate(path: Path, labels: Labels, folder: Path | None, names: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """By name of an image where its photo is, or would be; and notes on names that were taken for others.

    path: of the labels; folder: of the photos, None to look around the labels. Raises UsageError for a folder that
    cannot be searched.
    """
    others = [name for name in names if name not in labels.photos]
    if not others:
        return dict(labels.photos), []
    around = path if path.is_dir() else path.parent
    places = [folder] if folder else [around / place for place in _BESIDE]
    root = next((place for place in places if (place / others[0]).is_file()), places[0])
    matching = find_files(root, others) if folder else None
    found = matching.found if matching else {}
    located = {name: (root / found.get(name, name)).absolute() for name in others}
    return dict(labels.photos) | located, matching.notes(str(root)) if matching else []
