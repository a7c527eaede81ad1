"""Labels of other tools, to train on: what `pipelines.labels` reads. COCO files have a source of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import DataError
from pipelines.labels import LABELS, Asked
from pipelines.labels.glimpse import find_format, of_a_tool
from pipelines.labels.photos import locate
from pipelines.notes import counted_images
from pipelines.records import InstanceRecord
from pipelines.training.regions import Photo, Region
from pipelines.types import Frame


class LabelSource:
    """Labels of a format, see `LABELS`. photos: their folder, where they are not beside the labels.

    Masks are kept as text. Photos without masks, and objects without, are left out.
    """

    def __init__(self, path: Path, form: str, photos: Path | None) -> None:
        self.name = path.name
        labels = LABELS[form].load()(path, Asked(photos=photos))
        self.categories = {category.id: category.name for category in labels.categories}
        self._frame: Frame | None = "upright" if labels.frame == "upright" else None
        kept: list[tuple[str, tuple[int, int], Frame | None, str]] = []
        failed = dict[str, str]()
        unmasked = 0
        for record in labels.records:
            if record.status == "failed":
                failed[record.name] = record.reason or ""
            masks = [_entry(each) for each in record.instances if "segmentation" in each]
            unmasked += len(record.instances) - len(masks)
            if masks:
                kept.append((record.name, (record.width, record.height), record.frame, json.dumps(masks)))
        if failed:
            raise DataError(f"{path}: {counted_images(list(failed))}: {next(iter(failed.values()))}")
        places, differences = locate(path, labels, photos, [name for name, *_ in kept])
        missing = [name for name, *_ in kept if not places[name].is_file()]
        if missing:
            where = photos or path
            raise DataError(
                f"{path}: photos are not in {where}: {counted_images(missing)}; name their folder as `images`"
            )
        self.notes: Sequence[str] = [*labels.left_out.notes(path.name), *differences, *_of_unmasked(path, unmasked)]
        self._photos = [(places[name], size, frame, masks) for name, size, frame, masks in kept]

    @property
    def has_masks(self) -> bool:
        return bool(self._photos)

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Photo:
        path, size, frame, masks = self._photos[index]
        regions = tuple(Region(mask, category_id, entry=str(path)) for mask, category_id in json.loads(masks))
        return Photo(path, regions, size=size, frame=frame or self._frame, file=self.name)


def _entry(instance: InstanceRecord) -> tuple[object, int]:
    return instance["segmentation"], instance["category_id"]


def _of_unmasked(path: Path, count: int) -> list[str]:
    if not count:
        return []
    return [f"left out of {path.name}: {count} object{'s' if count > 1 else ''} without a mask"]


def open_labels(path: Path, photos: Path | None) -> LabelSource | None:
    """See `pipelines.training.sources.DataSetRow`."""
    if not path.exists() or not of_a_tool(path):
        return None
    row, found = find_format(path)
    return LabelSource(found, row.name, photos)
