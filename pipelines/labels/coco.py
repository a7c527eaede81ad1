"""COCO's ground truth and results, an image at a time: where its annotations are in the file is all that is kept."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipelines import coco, frames
from pipelines.errors import DataError, ImageError
from pipelines.files import reading
from pipelines.labels import Asked, Labels
from pipelines.labels.classes import categories_of_ids
from pipelines.labels.instances import image_record, of_box, of_mask
from pipelines.labels.json_stream import Entry, entries
from pipelines.labels.left_out import LeftOut
from pipelines.labels.photos import size_of_photo
from pipelines.labels.values import name_below
from pipelines.records import InstanceRecord, Record
from pipelines.segmentations import flat_polygons, mask_and_box
from pipelines.types import Category, Frame

_SCORES = ("score", "predicted_iou", "stability_score")
_NOT_CARRIED = ("keypoints", "attributes", "caption")


@dataclass(frozen=True)
class _Listed:
    """An image. size: (width, height), None where the file does not say."""

    id: int
    name: str
    size: tuple[int, int] | None
    frame: Frame | None


@dataclass
class _Index:
    """Where each entry is in the file, and which image it is of, by key."""

    keys: dict[int | str, int] = field(default_factory=dict)
    image: array[int] = field(default_factory=lambda: array("q"))
    start: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("q"))

    def add(self, key: int | str, entry: Entry) -> None:
        self.image.append(self.keys.setdefault(key, len(self.keys)))
        self.start.append(entry.start)
        self.length.append(entry.stop - entry.start)

    def by_image(self) -> Mapping[int | str, Sequence[int]]:
        """Numbers of the entries of each image, in the file's order."""
        return _Rows(self)


class _Rows(Mapping[int | str, Sequence[int]]):
    def __init__(self, index: _Index) -> None:
        images = np.asarray(index.image, np.int64)
        self._keys = index.keys
        self._order = np.argsort(images, kind="stable")
        self._starts = np.searchsorted(images[self._order], np.arange(len(index.keys) + 1))

    def __getitem__(self, key: int | str) -> Sequence[int]:
        place = self._keys[key]
        rows: Sequence[int] = self._order[self._starts[place] : self._starts[place + 1]].tolist()
        return rows

    def __iter__(self) -> Iterator[int | str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def read_ground_truth(path: Path, asked: Asked) -> Labels:
    """path: a file of images, annotations and categories. See `pipelines.labels`."""
    index, images, categories = _Index(), dict[int, _Listed](), list[Category]()
    info: Any = None
    found: set[str | None] = set()
    with reading(path, "a COCO file"), coco.named(str(path)), path.open("rb") as file:
        for entry in entries(file):
            found.add(entry.key)
            if entry.key == "info":
                info = {"info": entry.value}
            elif entry.in_list and entry.key == "images":
                with coco.named(f"image {len(images)}"):
                    _add(images, _listed(coco.fields(entry.value)))
            elif entry.in_list and entry.key == "categories":
                with coco.named(f"category {len(categories)}"):
                    listed = coco.fields(entry.value)
                    categories.append(Category(coco.whole_number(listed, "id"), coco.text(listed, "name")))
            elif entry.in_list and entry.key == "annotations":
                with coco.named(f"annotation {len(index.start)}"):
                    index.add(coco.whole_number(coco.fields(entry.value), "image_id"), entry)
        for name in ("images", "annotations", "categories"):
            if name not in found:
                raise DataError(f"COCO ground truth has a list {name!r}, this has none")
        coco.check_distinct("categories", "id", [category.id for category in categories])
        coco.check_distinct("images", "name", [image.name for image in images.values()])
        for id in index.keys:
            if id not in images:
                raise DataError(f"an annotation is for image {id}, which is not in its list 'images'")
    reader = _Reader(path, index, {category.id for category in categories}, asked, LeftOut(), frames.stated(None, info))
    return Labels(
        tuple(categories), reader.records(images.values()), len(images), reader.left_out, ids=True, frame="stored"
    )


def read_results(path: Path, asked: Asked) -> Labels:
    """path: a list of results, which may have file_name and category_name. See `pipelines.labels`."""
    index, images = _Index(), dict[int | str, _Listed]()
    names: dict[int, str] = {}
    used: set[int] = set()
    with reading(path, "a COCO results file"), coco.named(str(path)), path.open("rb") as file:
        for entry in entries(file):
            with coco.named(f"entry {len(index.start)}"):
                result = coco.fields(entry.value) if entry.in_list and entry.key is None else None
                if result is None:
                    raise DataError("COCO results are a list: this is none")
                id, name = _image_of(result)
                key = id if name is None else name
                index.add(key, entry)
                if key not in images or images[key].size is None:
                    images[key] = _Listed(id, name or str(id), _size_of(result), frames.stated(result))
                used.add(category := coco.whole_number(result, "category_id"))
                if result.get("category_name") is not None:
                    names[category] = coco.text(result, "category_name")
    named = used <= names.keys()
    categories = [Category(id, name) for id, name in sorted(names.items())]
    if not named:
        categories = list(categories_of_ids(used, asked.names))
    reader = _Reader(path, index, {category.id for category in categories}, asked, LeftOut(), None)
    records = reader.records(images.values(), images)
    return Labels(tuple(categories), records, len(images), reader.left_out, ids=True, named=named, frame="stored")


def _listed(entry: dict[str, Any]) -> _Listed:
    return _Listed(
        coco.whole_number(entry, "id"),
        name_below("", coco.needed_name(entry)),
        coco.stated_size(entry),
        frames.stated(entry),
    )


def _add(images: dict[int, _Listed], image: _Listed) -> None:
    if image.id in images:
        raise DataError(f"two of its images have the same id, {image.id}")
    images[image.id] = image


def _image_of(result: dict[str, Any]) -> tuple[int, str | None]:
    name = name_below("", coco.text(result, "file_name")) if coco.has(result, "file_name") else None
    if isinstance(result.get("image_id"), str):
        return 0, name or name_below("", coco.text(result, "image_id"))
    return (0 if name and "image_id" not in result else coco.whole_number(result, "image_id")), name


def _size_of(result: dict[str, Any]) -> tuple[int, int] | None:
    """What the run lengths of its mask say."""
    mask = result.get("segmentation")
    size = mask.get("size") if isinstance(mask, dict) else None
    if not isinstance(size, list) or len(size) != 2:
        return None
    return coco.image_size({"width": size[1], "height": size[0]})


@dataclass(frozen=True)
class _Reader:
    path: Path
    index: _Index
    categories: set[int]
    asked: Asked
    left_out: LeftOut
    frame: Frame | None

    def records(self, images: Any, keyed: Mapping[Any, _Listed] | None = None) -> Iterator[Record]:
        rows = self.index.by_image()
        keys = list(keyed) if keyed is not None else [image.id for image in images]
        with self.path.open("rb") as file:
            for key, image in zip(keys, images, strict=True):
                numbers = rows[key] if key in rows else ()
                yield self._record(file, image, numbers)

    def _record(self, file: BinaryIO, image: _Listed, numbers: Sequence[int]) -> Record:
        frame = image.frame or self.frame
        try:
            size = image.size or self._size(image)
        except ImageError as error:
            return Record(image.name, image.id, 0, 0, "failed", str(error))
        instances = []
        for number in numbers:
            with reading(self.path, "a COCO file"), coco.named(f"{self.path}: annotation {number}"):
                file.seek(self.index.start[number])
                entry = json.loads(file.read(self.index.length[number]))
                instances.append(self._instance(entry, image.name, size))
        return image_record(image.name, size, instances, image_id=image.id, frame=frame)

    def _size(self, image: _Listed) -> tuple[int, int]:
        return size_of_photo(self.asked, image.name, self.path.name)

    def _instance(self, entry: dict[str, Any], name: str, size: tuple[int, int]) -> InstanceRecord:
        if coco.flag(entry, "iscrowd"):
            self.left_out.add("crowd", name, read="read as one object each")
        for what in _NOT_CARRIED:
            if coco.has(entry, what) and entry[what] != {}:
                self.left_out.add(f"object's {what}", name)
        category = coco.known_id(entry, "category_id", self.categories, "its categories")
        mask, box = mask_and_box(entry, size[1], size[0])
        if mask is not None and (flat := flat_polygons(entry["segmentation"])):
            self.left_out.add("polygon of fewer than three corners", name, flat)
        found = of_box(category, box) if mask is None else of_mask(category, mask, box=box)
        for score in _SCORES:
            if entry.get(score) is not None:
                found[score] = coco.number(entry, score)  # type: ignore[literal-required]
        return found
