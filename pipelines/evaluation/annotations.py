"""A COCO or LVIS annotation file, read whole, checked and indexed once. Every mask becomes run lengths here."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import hotcoco
from pycocotools import mask as coco_mask

from pipelines import frames, rle
from pipelines.errors import DataError
from pipelines.types import Category, Frame, Rle

_MOST_PIXELS = 2**32
"""Run lengths of masks are 32-bit numbers."""
_SEARCHED = ("neg_category_ids", "not_exhaustive_category_ids")
"""What LVIS says of an image: classes that are surely not there, and classes not all of whose objects are annotated."""


@dataclass(frozen=True)
class TruthImage:
    """An image as the file lists it. name: a relative POSIX path below the folder of the images; frame: in which its
    pixels are counted, where the file says so."""

    id: int
    name: str
    width: int
    height: int
    frame: Frame | None = None

    def empty_mask(self) -> Rle:
        return rle.from_runs([self.height * self.width], self.height, self.width)


@dataclass(frozen=True)
class TruthObject:
    """An annotated object. bbox: xywh pixels; area: as the file states it, in pixels; crowd: a region of several."""

    id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    rle: Rle
    crowd: bool


@dataclass(frozen=True)
class GroundTruth:
    """images: by id, in the file's order; objects: by image id, in the file's order, one list for every image.

    document: what evaluators need of the file, in COCO's form, masks as RLE, `area` and `iscrowd` everywhere; LVIS's
    fields are kept. left_out: names of images by id that the file has, too, but of which nothing is asked.
    """

    path: Path
    images: Mapping[int, TruthImage]
    objects: Mapping[int, Sequence[TruthObject]]
    categories: tuple[Category, ...]
    document: Mapping[str, Any]
    left_out: Mapping[int, str] = field(default_factory=dict)

    def image_ids(self) -> dict[str, int]:
        """Name -> id of every image of the file, those that are left out, too."""
        return {image.name: id for id, image in self.images.items()} | {name: id for id, name in self.left_out.items()}

    def category_names(self) -> dict[int, str]:
        """Category id -> its name, and its id where several have that name: `rod (3)`."""
        times = Counter(category.name for category in self.categories)
        return {one.id: f"{one.name} ({one.id})" if times[one.name] > 1 else one.name for one in self.categories}


def read_ground_truth(path: Path, *, limit: int | None = None) -> GroundTruth:
    """Read an annotation file. limit: only its first images.

    Polygons become masks as in pycocotools; a missing `area`, `bbox` or `iscrowd` becomes that of the mask, or 0. An
    image's name is its file_name; LVIS has none, there it is the last two parts of coco_url (`val2017/1.jpg`).
    Raises DataError that names the file and the entry.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            document = json.load(file)
        return _index(path, document, limit)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not an annotation file: its JSON cannot be read ({error})") from error


def _index(path: Path, document: Any, limit: int | None) -> GroundTruth:
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise DataError(f"COCO ground truth has a list {key!r}, this has none (a results file is itself a list)")
    images = [
        replace(_image(index, entry), frame=frames.stated(entry, document))
        for index, entry in enumerate(document["images"])
    ]
    by_id = {image.id: image for image in images}
    categories = tuple(_category(index, entry) for index, entry in enumerate(document["categories"]))
    if len(by_id) < len(images) or len({image.name for image in images}) < len(images):
        raise DataError("two of its images have the same id or the same name")
    if not images or not categories:
        raise DataError(f"it lists no {'category' if images else 'image'}")
    if len({category.id for category in categories}) < len(categories):
        raise DataError("two of its categories have the same id")

    kept = dict(list(by_id.items())[:limit])
    category_ids = {category.id for category in categories}
    objects: dict[int, list[TruthObject]] = {id: [] for id in kept}
    annotations = []
    for index, entry in enumerate(document["annotations"]):
        image_id = entry.get("image_id") if isinstance(entry, dict) else None
        if not _is_id(image_id) or image_id not in by_id:
            raise DataError(f"annotation {index} is for image {image_id!r}, which is not in its list 'images'")
        if image_id in kept:
            found = _object(index, entry, kept[image_id], category_ids)
            objects[image_id].append(found)
            annotations.append(_annotation(image_id, found))
    if len({entry["id"] for entry in annotations}) < len(annotations):
        raise DataError("two of its annotations have the same id")
    listed = [_listed_image(kept[entry["id"]], entry) for entry in document["images"][:limit]]
    classes = [{key: one[key] for key in ("id", "name", "frequency") if key in one} for one in document["categories"]]
    complete = {"images": listed, "annotations": annotations, "categories": classes}
    left_out = {id: image.name for id, image in by_id.items() if id not in kept}
    return GroundTruth(path, kept, objects, categories, complete, left_out)


def _is_id(value: Any) -> TypeGuard[int]:
    """Whether an evaluator can take it for an id."""
    return type(value) is int and 0 <= value < 2**63


def _image(index: int, entry: Any) -> TruthImage:
    fields = entry if isinstance(entry, dict) else {}
    id, width, height = (fields.get(key) for key in ("id", "width", "height"))
    if not (_is_id(id) and _is_id(width) and _is_id(height) and width and height):
        raise DataError(f"image {index} needs whole numbers 'id', not below 0, 'width' and 'height'")
    if width * height >= _MOST_PIXELS:
        raise DataError(f"image {index} is said to be {width} x {height}: its masks would have too many pixels")
    for key in _SEARCHED:
        ids = fields.get(key, [])
        if not isinstance(ids, list) or not all(map(_is_id, ids)):
            raise DataError(f"image {index}: {key!r} must be a list of category ids")
    name = fields.get("file_name")
    if name is None and isinstance(fields.get("coco_url"), str):
        name = "/".join(fields["coco_url"].split("/")[-2:])
    if not isinstance(name, str) or not name:
        raise DataError(f"image {index} has neither a 'file_name' nor a 'coco_url'")
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or "\0" in name:
        raise DataError(f"image {index} is named {name!r}, which leaves the folder of the images")
    return TruthImage(id, str(parts), width, height)


def _listed_image(image: TruthImage, entry: Mapping[str, Any]) -> dict[str, Any]:
    lists = {key: entry[key] for key in _SEARCHED if key in entry}
    return {"id": image.id, "file_name": image.name, "width": image.width, "height": image.height, **lists}


def _category(index: int, entry: Any) -> Category:
    fields = entry if isinstance(entry, dict) else {}
    if not _is_id(fields.get("id")) or not isinstance(fields.get("name"), str):
        raise DataError(f"category {index} needs a whole number 'id', not below 0, and a text 'name'")
    if not isinstance(fields.get("frequency", ""), str):
        raise DataError(f"category {index} has a 'frequency' that is no text")
    return Category(fields["id"], fields["name"])


def _object(index: int, entry: dict[str, Any], image: TruthImage, category_ids: set[int]) -> TruthObject:
    id, category_id = entry.get("id"), entry.get("category_id")
    if not _is_id(id):
        raise DataError(f"annotation {index} needs a whole number 'id', not below 0")
    if not _is_id(category_id) or category_id not in category_ids:
        raise DataError(f"annotation {index} is of category {category_id!r}, which is not listed")
    try:
        mask = to_rle(entry.get("segmentation"), image.height, image.width)
        if isinstance(entry["segmentation"], dict):
            rle.runs(mask)
        x, y, w, h = (float(value) for value in entry.get("bbox") or rle.bbox(mask))
        area = float(entry["area"] if "area" in entry else rle.area(mask))
    except (TypeError, ValueError, DataError) as error:
        raise DataError(f"annotation {index}: {error}") from error
    if not all(map(math.isfinite, (x, y, w, h, area))):
        raise DataError(f"annotation {index} holds a value that is not a finite number")
    return TruthObject(id, category_id, (x, y, w, h), area, mask, bool(entry.get("iscrowd", 0)))


def _annotation(image_id: int, found: TruthObject) -> dict[str, Any]:
    return {
        "id": found.id,
        "image_id": image_id,
        "category_id": found.category_id,
        "bbox": list(found.bbox),
        "area": found.area,
        "iscrowd": int(found.crowd),
        "segmentation": found.rle,
    }


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """COCO's segmentation of any kind -> Rle: polygons, uncompressed counts or compressed.

    Polygons are drawn as pycocotools draws them. Raises ValueError for what is none of these, or not a mask of a
    height x width image.
    """
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if size != [height, width]:
            raise ValueError(f"its mask is of size {size}, but its image is {height} x {width} (height x width)")
        if isinstance(counts, str):
            hotcoco.mask.area(segmentation)  # raises ValueError for a damaged one
            return Rle(size=[height, width], counts=counts)
        if isinstance(counts, list) and all(type(run) is int and run >= 0 for run in counts):
            if sum(counts) != height * width:
                raise ValueError(f"its run lengths do not fill {width} x {height} pixels")
            return rle.from_runs(counts, height, width)
    if isinstance(segmentation, list) and segmentation and all(map(_is_polygon, segmentation)):
        drawn = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        return Rle(size=[height, width], counts=drawn["counts"].decode("ascii"))
    raise ValueError("it has no mask: 'segmentation' must be polygons or run lengths")


def _is_polygon(points: Any) -> bool:
    """At least three corners, x and y in turn, near enough to a picture to be drawn."""
    return (
        isinstance(points, list)
        and len(points) >= 6
        and len(points) % 2 == 0
        and all(isinstance(value, int | float) and abs(value) < 1e6 for value in points)
    )
