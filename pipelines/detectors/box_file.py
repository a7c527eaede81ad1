"""Boxes from a file instead of a model: COCO results, COCO ground truth or CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from pipelines.boxes import clip, has_area, to_xyxy
from pipelines.detectors.box_table import FileImage, read_box_table
from pipelines.errors import DataError, ImageError
from pipelines.types import Category, Detections, Image


class BoxFile:
    """The boxes a file has for each image of a run.

    skipped: annotations of a ground truth left out because their area is below 1. counts: what became of the boxes of
    all images so far; those of which nothing lies inside their image are dropped.
    """

    batch = 1

    def __init__(
        self,
        path: Path,
        box_format: str | None,
        image_ids: Mapping[str, int],
        *,
        min_score: float | None = None,
        categories: Sequence[Category] | None = None,
    ) -> None:
        """Read and check the file: `box_table.read_box_table` says what it may hold, and what box_format and
        categories are.

        image_ids: every image of the run, name -> id. An image is found in the file by its name, else by its last
        part if no two share that, else, where none of the file's names is the run's, by its id: if the file has only
        ids, or the run's are the numbers of its files. min_score: leave lower scores out; None: all boxes are used.
        Raises DataError also when the file speaks of images and of none of the run's.
        """
        table = read_box_table(path, box_format, categories)
        order = np.argsort(table.image_indices, kind="stable")
        if min_score is not None:
            order = order[table.scores[order] >= min_score]
        self._path = path
        self._box_format = table.box_format
        self._boxes, self._scores = table.boxes[order], table.scores[order]
        self._category_ids = table.category_ids[order]
        self._images = table.images
        self._places = _match(table.images, image_ids)
        if table.images and not self._places:
            raise DataError(f"{path} has boxes for none of the run's {len(image_ids)} images: is it the right file?")
        # Boxes of image i are rows starts[i] to starts[i + 1].
        self._starts = np.searchsorted(table.image_indices[order], np.arange(len(table.images) + 1))
        self.categories = table.categories
        self.skipped = table.skipped
        self.counts = {"kept": 0, "dropped_outside_the_image": 0}

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """The boxes of each image, clipped to it, best score first; none where the file has none.

        Raises ImageError for an image whose size is not the one the file states.
        """
        return [self._detections(image) for image in images]

    def _detections(self, image: Image) -> Detections:
        place = self._places.get(image.name)
        if place is None:
            return Detections.empty()
        width, height = self._images[place].size or (image.width, image.height)
        if (width, height) != (image.width, image.height):
            raise ImageError(
                f"the image is {image.width} x {image.height}, but {self._path} states {width} x {height} for its boxes"
            )
        rows = slice(self._starts[place], self._starts[place + 1])
        boxes = to_xyxy(self._boxes[rows], self._box_format, width=width, height=height, allow_empty=True)
        boxes = clip(boxes, width=width, height=height)
        inside = has_area(boxes)
        self.counts["kept"] += int(inside.sum())
        self.counts["dropped_outside_the_image"] += int((~inside).sum())
        scores = self._scores[rows]
        best_first = np.argsort(-scores, kind="stable")
        chosen = best_first[inside[best_first]]
        return Detections(boxes[chosen], scores[chosen], self._category_ids[rows][chosen])


def _match(images: Sequence[FileImage], image_ids: Mapping[str, int]) -> dict[str, int]:
    """Name of an image of the run -> its place in `images`."""
    named = {image.name.replace("\\", "/"): place for place, image in enumerate(images) if image.name is not None}
    places: dict[str, int] = {}
    for ours, theirs in ((str, str), (_last_part, _last_part), (_stem, str)):
        found = {key: named[name] for key, name in _unique(theirs, named).items()}
        taken = set(places.values())
        for key, name in _unique(ours, image_ids).items():
            if name not in places and key in found and found[key] not in taken:
                places[name] = found[key]
    numbered = all(_stem(name).lstrip("0") == str(id).lstrip("0") for name, id in image_ids.items())
    if places or (named and not numbered):
        return places
    by_id = {image.id: place for place, image in enumerate(images) if image.id is not None}
    return {name: by_id[id] for name, id in image_ids.items() if id in by_id}


def _unique(key: Callable[[str], str], names: Iterable[str]) -> dict[str, str]:
    """key(name) -> name, without the keys that several names share."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return {shared: group[0] for shared, group in groups.items() if len(group) == 1}


def _last_part(name: str) -> str:
    return PurePosixPath(name).name


def _stem(name: str) -> str:
    return PurePosixPath(name).stem
