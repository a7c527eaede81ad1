"""A COCO or LVIS file to train on."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipelines import coco
from pipelines.errors import DataError
from pipelines.files import read_json
from pipelines.images.search import find_files
from pipelines.labels.glimpse import of_a_tool
from pipelines.names import match
from pipelines.notes import counted_images
from pipelines.segmentations import flat_polygons, note_of_flat
from pipelines.training.regions import Photo, Region
from pipelines.types import Frame


class _Row(NamedTuple):
    """A photo as a file lists it, see `Photo`. name: a path below the folder of the photos."""

    name: str
    size: tuple[int, int] | None
    frame: Frame | None


class CocoSource:
    """COCO or LVIS annotations: `path` is the JSON file, or a folder that holds `annotations.json` and `images/`.

    Photos are looked for under `photos`, or else around the JSON file, by `file_name` or the end of `coco_url`.
    Annotations are kept as text and parsed photo by photo. Photos without annotations are left out.
    """

    def __init__(self, path: Path, photos: Path | None) -> None:
        self.name = path.parent.name if path.name == "annotations.json" else path.stem
        document = read_json(path, "a file of COCO annotations")
        with coco.named(str(path)):
            listed = coco.lists(document, ("images", "annotations"))
            rows = coco.images(document, _row)
            masks = _Masks(rows)
            coco.each("annotation", listed["annotations"], masks.read)
            names = {category.id: category.name for category in coco.categories(document)}
        annotated = [(row, json.dumps(masks.of_photo[id])) for id, row in rows.items() if id in masks.of_photo]
        used = {category_id for of_photo in masks.of_photo.values() for _, category_id, *_ in of_photo}
        self.categories = dict.fromkeys(sorted(used), "object") | names
        self.has_masks = any(masks.of_photo.values())
        photo_names = [row.name for row, _ in annotated]
        self._root = _photo_root(path, photos, photo_names[:1])
        files = find_files(self._root, photo_names)
        missing = [name for name in photo_names if name not in files.found]
        if missing:
            raise DataError(f"{path}: photos are not in {self._root}: {counted_images(missing)}")
        self.notes: Sequence[str] = [*masks.notes(path.name), *files.notes(str(self._root))]
        self._photos = [(row._replace(name=files.found[row.name]), of_photo) for row, of_photo in annotated]
        self._path = path

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Photo:
        (name, size, frame), annotations = self._photos[index]
        regions = tuple(
            Region(segmentation, category_id, crowd, f"{self._path}: annotation {number}")
            for segmentation, category_id, crowd, number in json.loads(annotations)
        )
        return Photo(inside(self._root, name), regions, size=size, frame=frame, file=self._path.name)


def _row(_: int, entry: dict[str, Any], frame: Frame | None) -> _Row:
    return _Row(coco.needed_name(entry), coco.stated_size(entry), frame)


class _Masks:
    """Reads annotations. of_photo: by id of each photo that has any, those with a mask, each as what makes a `Region`
    and its number in the file."""

    def __init__(self, photos: Container[int]) -> None:
        self.of_photo: dict[int, list[list[Any]]] = {}
        self._photos = photos
        self._flat: dict[int, int] = {}
        self._unmasked: list[int] = []

    def read(self, number: int, entry: dict[str, Any]) -> None:
        photo = coco.known_id(entry, "image_id", self._photos, "its list 'images'")
        of_photo = self.of_photo.setdefault(photo, [])
        category_id = coco.whole_number(entry, "category_id") if "category_id" in entry else 1
        crowd = coco.flag(entry, "iscrowd")
        if not coco.has(entry, "segmentation"):
            self._unmasked.append(number)
            return
        of_photo.append([entry["segmentation"], category_id, crowd, number])
        if flat := flat_polygons(entry["segmentation"]):
            self._flat[number] = flat

    def notes(self, file: str) -> list[str]:
        notes = note_of_flat(self._flat, "annotation", file)
        if self._unmasked:
            notes.append(f"left out of {file}: what has no mask ({coco.numbered('annotation', self._unmasked)})")
        return notes


def open_coco(path: Path, photos: Path | None) -> CocoSource | None:
    """See `pipelines.training.sources.DataSetRow`."""
    file = path if path.suffix == ".json" and path.is_file() else path / "annotations.json"
    return CocoSource(file, photos) if file.is_file() and not of_a_tool(file) else None


def inside(root: Path, name: str) -> Path:
    """root / name, which must stay below root."""
    path = root / name
    try:
        is_inside = path.resolve().is_relative_to(root.resolve())
    except ValueError as error:  # a zero byte, or what no file system encodes
        raise DataError(f"photo {name!r} cannot be the name of a file") from error
    if not is_inside:
        raise DataError(f"photo {name!r} lies outside of {root}")
    return path


def _photo_root(path: Path, photos: Path | None, names: Sequence[str]) -> Path:
    """The folder that file names start from, found by looking for the first photo."""
    beside = [path.parent / "images", path.parent, path.parent.parent, path.parent.parent / "images"]
    split = path.parent.parent / path.stem.split("_")[-1]  # annotations/instances_val2017.json -> val2017/
    if photos:
        return photos
    candidates = [*beside, split]
    for is_there in (_has_file, _has_like):
        for root in candidates:
            if all(is_there(root / name) for name in names):
                return root
    places = ", ".join(str(root) for root in candidates)
    raise DataError(
        f"{path}: photo {names[0]!r} is in none of: {places}; name their folder as `images` under "
        "[[data]] or [validation] in the recipe"
    )


def _has_file(path: Path) -> bool:
    return path.is_file()


def _has_like(path: Path) -> bool:
    """Whether there is a file whose name means the same."""
    try:
        return bool(match([path.name], [entry.name for entry in path.parent.iterdir()]).found)
    except OSError:
        return False
