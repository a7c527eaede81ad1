"""A COCO or LVIS annotation file, read whole, checked and indexed once. Every mask becomes run lengths here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines import coco, rle
from pipelines.errors import DataError
from pipelines.files import read_json
from pipelines.names import folded
from pipelines.segmentations import flat_polygons, mask_and_box, note_of_flat
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

    def ids_by_name(self) -> dict[str, int]:
        """A category's name, `folded` -> its id."""
        return {folded(category.name): category.id for category in self.categories}

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
    images = coco.images(document, _image)
    coco.check_distinct("images", "name", [image.name for image in images.values()])
    categories = coco.categories(document)
    coco.check_distinct("categories", "id", [category.id for category in categories])
    letters = coco.each("category", listed["categories"], _frequency)
    if not images or not categories:
        raise DataError(f"it lists no {'category' if images else 'image'}")

    kept = dict(list(images.items())[:limit])
    reader = _Objects(images, kept, {category.id for category in categories})
    coco.each("annotation", listed["annotations"], reader.read)
    coco.check_distinct("annotations", "id", [found.id for of_image in reader.objects.values() for found in of_image])
    return GroundTruth(
        path=path,
        images=kept,
        objects=reader.objects,
        categories=tuple(categories),
        frequencies={of.id: letter for of, letter in zip(categories, letters, strict=True) if letter is not None},
        left_out={id: image.name for id, image in images.items() if id not in kept},
        notes=reader.notes(path),
    )


def _image(id: int, entry: dict[str, Any], frame: Frame | None) -> TruthImage:
    return TruthImage(
        id,
        coco.inner_name(entry),
        *coco.image_size(entry),
        frame,
        coco.ids(entry, "neg_category_ids") if "neg_category_ids" in entry else None,
        coco.ids(entry, "not_exhaustive_category_ids") if "not_exhaustive_category_ids" in entry else (),
    )


def _frequency(_: int, entry: dict[str, Any]) -> str | None:
    return coco.text(entry, "frequency") if "frequency" in entry else None


class _Objects:
    """Reads annotations, and keeps in mind what of them has to be told. objects: those of each image that is kept."""

    def __init__(
        self, images: Mapping[int, TruthImage], kept: Mapping[int, TruthImage], category_ids: set[int]
    ) -> None:
        self.objects: dict[int, list[TruthObject]] = {id: [] for id in kept}
        self._images = images
        self._category_ids = category_ids
        self._flat: dict[int, int] = {}
        self._empty: list[int] = []

    def read(self, number: int, entry: dict[str, Any]) -> None:
        image_id = coco.known_id(entry, "image_id", self._images, "its list 'images'")
        if image_id not in self.objects:
            return
        image = self._images[image_id]
        id = coco.whole_number(entry, "id")
        category_id = coco.known_id(entry, "category_id", self._category_ids, "its list 'categories'")
        mask, box = mask_and_box(entry, image.height, image.width)
        area = box[2] * box[3]
        if mask is not None:
            area = float(rle.area(mask))
            if flat := flat_polygons(entry["segmentation"]):
                self._flat[number] = flat
            if not area:
                self._empty.append(number)
        if "area" in entry:
            area = coco.number(entry, "area")
        crowd = coco.flag(entry, "iscrowd")
        found = TruthObject(id, category_id, box, area, mask or image.empty_mask, crowd, masked=mask is not None)
        self.objects[image_id].append(found)

    def notes(self, path: Path) -> list[str]:
        notes = note_of_flat(self._flat, "annotation", path.name)
        if self._empty:
            which = coco.numbered("annotation", self._empty)
            notes.append(f"masks of {path.name} that cover no pixel count as objects that no mask finds ({which})")
        return notes
