"""A COCO or LVIS annotation file, read whole, checked and indexed once. Every mask becomes run lengths here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines import coco, frames, rle
from pipelines.errors import DataError
from pipelines.files import read_json
from pipelines.types import Category, Frame, Rle


@dataclass(frozen=True)
class TruthImage:
    """An image as the file lists it. name: a relative POSIX path below the folder of the images; frame: in which its
    pixels are counted, where the file says so.

    absent, partly: what LVIS says of it: classes that are surely not there (None: the file is not LVIS's), and classes
    not all of whose objects are annotated.
    """

    id: int
    name: str
    width: int
    height: int
    frame: Frame | None = None
    absent: tuple[int, ...] | None = None
    partly: tuple[int, ...] = ()

    @cached_property
    def empty_mask(self) -> Rle:
        return rle.from_runs([self.height * self.width], self.height, self.width)


@dataclass(frozen=True)
class TruthObject:
    """An annotated object. bbox: xywh pixels; area: as the file states it, in pixels; crowd: a region of several;
    masked: whether the file has a mask of it: if not, rle is empty."""

    id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    rle: Rle
    crowd: bool
    masked: bool = True


@dataclass(frozen=True)
class GroundTruth:
    """images: by id, in the file's order; objects: by image id, in the file's order, one list for every image.

    frequencies: LVIS's letter of each category that has one, by id. left_out: names of images by id that the file has,
    too, but of which nothing is asked. notes: see `pipelines.notes`.
    """

    path: Path
    images: Mapping[int, TruthImage]
    objects: Mapping[int, Sequence[TruthObject]]
    categories: tuple[Category, ...]
    frequencies: Mapping[int, str] = field(default_factory=dict)
    left_out: Mapping[int, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def is_lvis(self) -> bool:
        return all(image.absent is not None for image in self.images.values())

    @property
    def has_masks(self) -> bool:
        """Whether every object has one."""
        return all(found.masked for found in self.all_objects())

    def all_objects(self) -> list[TruthObject]:
        return [found for of_image in self.objects.values() for found in of_image]

    def image_ids(self) -> dict[str, int]:
        """Name -> id of every image of the file, those that are left out, too."""
        return {image.name: id for id, image in self.images.items()} | {name: id for id, name in self.left_out.items()}

    def category_names(self) -> dict[int, str]:
        """Category id -> its name, and its id where several have that name: `rod (3)`."""
        times = Counter(category.name for category in self.categories)
        return {one.id: f"{one.name} ({one.id})" if times[one.name] > 1 else one.name for one in self.categories}


def read_ground_truth(path: Path, *, limit: int | None = None) -> GroundTruth:
    """Read an annotation file. limit: only its first images.

    Polygons become masks as in pycocotools; a missing `area`, `bbox` or `iscrowd` becomes that of the mask, or 0.
    Objects may have a box alone. Raises DataError that names the file and the entry.
    """
    document = read_json(path, "an annotation file")
    with coco.named(str(path)):
        return _index(path, document, limit)


def _index(path: Path, document: Any, limit: int | None) -> GroundTruth:
    listed = coco.lists(document)
    images, categories, frequencies = [], [], {}
    for index, entry in enumerate(listed["images"]):
        with coco.named(f"image {index}"):
            images.append(_image(coco.fields(entry), frames.stated(entry, document)))
    for index, entry in enumerate(listed["categories"]):
        with coco.named(f"category {index}"):
            categories.append(coco.category(coco.fields(entry)))
            if "frequency" in entry:
                frequencies[categories[-1].id] = coco.text(entry, "frequency")
    coco.check_distinct("images", "id", [image.id for image in images])
    coco.check_distinct("images", "name", [image.name for image in images])
    coco.check_distinct("categories", "id", [category.id for category in categories])
    if not images or not categories:
        raise DataError(f"it lists no {'category' if images else 'image'}")

    by_id = {image.id: image for image in images}
    kept = dict(list(by_id.items())[:limit])
    reader = _Objects({category.id for category in categories})
    objects: dict[int, list[TruthObject]] = {id: [] for id in kept}
    for index, entry in enumerate(listed["annotations"]):
        with coco.named(f"annotation {index}"):
            image_id = coco.known_id(coco.fields(entry), "image_id", by_id, "its list 'images'")
            if image_id in kept:
                objects[image_id].append(reader.read(index, entry, kept[image_id]))
    coco.check_distinct("annotations", "id", [found.id for of_image in objects.values() for found in of_image])
    left_out = {id: image.name for id, image in by_id.items() if id not in kept}
    return GroundTruth(path, kept, objects, tuple(categories), frequencies, left_out, reader.notes(path))


def _image(entry: dict[str, Any], frame: Frame | None) -> TruthImage:
    return TruthImage(
        coco.whole_number(entry, "id"),
        coco.inner_name(entry),
        *coco.image_size(entry),
        frame,
        coco.ids(entry, "neg_category_ids") if "neg_category_ids" in entry else None,
        coco.ids(entry, "not_exhaustive_category_ids") if "not_exhaustive_category_ids" in entry else (),
    )


class _Objects:
    """Reads annotations, and keeps in mind what of them has to be told."""

    def __init__(self, category_ids: set[int]) -> None:
        self._category_ids = category_ids
        self._flat: dict[int, int] = {}
        self._empty: list[int] = []

    def read(self, index: int, entry: dict[str, Any], image: TruthImage) -> TruthObject:
        id = coco.whole_number(entry, "id")
        category_id = coco.known_id(entry, "category_id", self._category_ids, "its list 'categories'")
        masked, boxed = coco.has(entry, "segmentation"), coco.has(entry, "bbox")
        if not masked and not boxed:
            raise DataError("it has neither a 'segmentation' nor a 'bbox'")
        mask = self._mask(index, entry["segmentation"], image) if masked else image.empty_mask
        x, y, w, h = coco.box(entry) if boxed else map(float, rle.bbox(mask))
        area = coco.number(entry, "area") if "area" in entry else float(rle.area(mask)) if masked else w * h
        return TruthObject(id, category_id, (x, y, w, h), area, mask, coco.flag(entry, "iscrowd"), masked)

    def _mask(self, index: int, segmentation: Any, image: TruthImage) -> Rle:
        mask = coco.to_rle(segmentation, image.height, image.width)
        if flat := coco.flat_polygons(segmentation):
            self._flat[index] = flat
        if not rle.area(mask):
            self._empty.append(index)
        return mask

    def notes(self, path: Path) -> list[str]:
        notes = coco.note_of_flat(self._flat, "annotation", path.name)
        if self._empty:
            which = coco.numbered("annotation", self._empty)
            notes.append(f"masks of {path.name} that cover no pixel count as objects that no mask finds ({which})")
        return notes
