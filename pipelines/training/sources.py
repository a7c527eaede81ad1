"""Photos with masks on disk: COCO and LVIS JSON, SA-1B folders, folders of mask PNGs. Masks stay encoded until used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipelines import coco
from pipelines.errors import DataError
from pipelines.files import read_json
from pipelines.frames import said_by_png, stated
from pipelines.names import match, pair
from pipelines.training.coco_source import CocoSource, inside
from pipelines.training.regions import Photo, Region, read_labels

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class DataSource(Protocol):
    """Photos by number. categories: class names by id, "object" where the data set names none; notes: see
    `pipelines.notes`."""

    name: str
    categories: dict[int, str]
    notes: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Photo: ...


class Sa1bSource:
    """An SA-1B folder: one JSON file beside each photo (also in sub-folders), read when the photo is used."""

    categories = {1: "object"}  # noqa: RUF012
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


class PngSource:
    """Folders `images/` and `masks/`. Photo `a.jpg` has `masks/a.png`, whose values number the objects (0: none), or a
    folder `masks/a/` with one PNG per object (above 0: the object); or `a.jpg.png` or `a.jpg/`, as evsam calls
    them where photos share a stem."""

    categories = {1: "object"}  # noqa: RUF012

    def __init__(self, path: Path, photos: Path | None) -> None:
        self.name = path.name
        folder = photos or path / "images"
        if not folder.is_dir():
            raise DataError(f"{path} has masks/, but {folder} is no folder of photos")
        masks = path / "masks"
        folders = {f"{entry.name}.png": entry for entry in sorted(masks.iterdir()) if entry.is_dir()}
        files = {entry.name: entry for entry in sorted(masks.iterdir()) if entry.suffix.lower() == ".png"}
        found = {entry.name: entry for entry in sorted(folder.iterdir()) if entry.suffix.lower() in PHOTO_SUFFIXES}
        pairing = pair(found, folders | files)
        for name, photo in found.items():
            if name not in pairing.found:
                raise DataError(f"{photo}: neither {masks / photo.stem}.png nor {masks / photo.stem}/ exists")
        self.notes: Sequence[str] = pairing.notes(str(masks))
        self._photos = [(found[name], (folders | files)[mask]) for name, mask in pairing.found.items()]

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Photo:
        photo, masks = self._photos[index]
        parts = sorted(masks.glob("*.png")) if masks.is_dir() else [masks]
        try:
            frame = said_by_png(parts[0]) if parts else None
            if masks.is_dir():
                regions = [Region((part, 0)) for part in parts]
            else:
                regions = [Region((masks, int(value))) for value in np.unique(read_labels(masks)) if value]
        except OSError as error:
            raise DataError(f"{photo}: its masks cannot be read: {error}") from error
        return Photo(photo, tuple(regions), frame=frame, file=self.name)


def open_source(path: Path, photos: Path | None = None) -> DataSource:
    """The data set at `path`, told apart by what is there: see the three sources. photos: their folder, when they are
    not beside the annotations. Raises DataError for anything else, and for a data set without photos."""
    source = find_source(path, photos)
    if source is None:
        raise DataError(
            f"{path} is no data set: give a COCO or LVIS JSON file, a folder with annotations.json, an SA-1B folder "
            "(JSON beside each photo), or a folder with images/ and masks/"
        )
    if not len(source):
        raise DataError(f"{path} holds no annotated photo")
    if isinstance(source, CocoSource) and not source.has_masks:
        raise DataError(f"{path} holds no mask: none of its annotations has a 'segmentation'")
    return source


def find_source(path: Path, photos: Path | None = None) -> DataSource | None:
    """As `open_source`, but None where nothing tells of a data set."""
    if path.suffix == ".json" and path.is_file():
        return CocoSource(path, photos)
    if (path / "annotations.json").is_file():
        return CocoSource(path / "annotations.json", photos)
    if (path / "masks").is_dir():
        return PngSource(path, photos)
    if path.is_dir() and next(path.rglob("*.json"), None):
        return Sa1bSource(path)
    return None


def _beside(file: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The photo of that name in the folder of its annotations, and notes."""
    path = inside(file.parent, name)
    if path.is_file():
        return path, ()
    matching = match([name], [entry.name for entry in file.parent.iterdir() if entry.suffix.lower() in PHOTO_SUFFIXES])
    if name not in matching.found:
        raise DataError(f"{file}: there is no photo {name!r} beside it")
    return file.parent / matching.found[name], tuple(matching.notes(str(file.parent)))
