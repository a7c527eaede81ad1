"""Photos with PNGs of their objects, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.errors import DataError
from pipelines.frames import said_by_png
from pipelines.names import pair
from pipelines.training.regions import PHOTO_SUFFIXES, Photo, Region, read_labels


class PngSource:
    """Folders `images/` and `masks/`. Photo `a.jpg` has `masks/a.png`, whose values number the objects (0: none), or a
    folder `masks/a/` with one PNG per object (above 0: the object); or `a.jpg.png` or `a.jpg/`, as evsam calls
    them where photos share a stem."""

    categories = {1: "object"}  # noqa: RUF012
    has_masks = True

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


def open_pngs(path: Path, photos: Path | None) -> PngSource | None:
    """See `pipelines.training.sources.DataSetRow`."""
    return PngSource(path, photos) if (path / "masks").is_dir() else None
