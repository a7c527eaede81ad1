"""An SA-1B folder to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines import coco
from pipelines.errors import DataError
from pipelines.files import read_json
from pipelines.frames import stated
from pipelines.names import match
from pipelines.training.coco_source import inside
from pipelines.training.regions import PHOTO_SUFFIXES, Photo, Region


class Sa1bSource:
    """An SA-1B folder: one JSON file beside each photo (also in sub-folders), read when the photo is used."""

    categories = {1: "object"}  # noqa: RUF012
    has_masks = True
    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._files = sorted(str(file) for file in path.rglob("*.json"))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Photo:
        file = Path(self._files[index])
        document = read_json(file, "a file of SA-1B annotations")

        def region(number: int, entry: dict[str, Any]) -> Region:
            return Region(coco.needed(entry, "segmentation"), entry=f"{file}: annotation {number}")

        with coco.named(str(file)):
            image = coco.fields(coco.needed(coco.fields(document), "image"))
            regions = coco.each("annotation", coco.lists(document, ("annotations",))["annotations"], region)
            size = coco.stated_size(image)
            name = coco.needed_name(image)
        path, notes = _beside(file, name)
        return Photo(path, tuple(regions), notes, size, stated(image, document), self.name)


def open_sa1b(path: Path, photos: Path | None) -> Sa1bSource | None:
    """See `pipelines.training.sources.DataSetRow`."""
    return Sa1bSource(path) if path.is_dir() and next(path.rglob("*.json"), None) else None


def _beside(file: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The photo of that name in the folder of its annotations, and notes."""
    path = inside(file.parent, name)
    if path.is_file():
        return path, ()
    matching = match([name], [entry.name for entry in file.parent.iterdir() if entry.suffix.lower() in PHOTO_SUFFIXES])
    if name not in matching.found:
        raise DataError(f"{file}: there is no photo {name!r} beside it")
    return file.parent / matching.found[name], tuple(matching.notes(str(file.parent)))
