"""Photos with masks on disk: COCO and LVIS JSON, SA-1B folders, folders of mask PNGs. Masks stay encoded until used."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL.PngImagePlugin import PngImageFile
from pycocotools import mask as coco_mask

from pipelines import images, rle
from pipelines.errors import DataError, ImageError
from pipelines.frames import load_annotated, stated
from pipelines.images.needed import needed_of_png
from pipelines.names import match, pair
from pipelines.notes import counted_images
from pipelines.search import find_files
from pipelines.sources import Source as ImageFile
from pipelines.types import Bool, Frame, Image, Rle, UInt8

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Region:
    """One mask of a photo, still encoded. segmentation: COCO polygons, an RLE dictionary (counts as text or a list), or
    a pair of PNG path and value; category_id: its class, 1 where there are none; crowd: it stands for many objects."""

    segmentation: Any
    category_id: int = 1
    crowd: bool = False

    def decode(self, height: int, width: int) -> Bool:
        """height x width bool. Raises DataError when the segmentation is of another size, or not one at all."""
        try:
            mask = self._decode(height, width)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, OSError) as error:
            raise DataError(f"a mask cannot be read: {error}") from error
        if mask.shape != (height, width):
            raise DataError(f"a mask is {mask.shape[1]} x {mask.shape[0]}, its photo {width} x {height}")
        return mask

    def size(self) -> tuple[int, int] | None:
        """Width and height of the mask, None where it has none of its own, or cannot be read."""
        try:
            if isinstance(self.segmentation, tuple):
                height, width = read_labels(self.segmentation[0]).shape
            else:
                height, width = self.segmentation["size"]
        except (TypeError, ValueError, LookupError, OSError):
            return None
        return width, height

    def _decode(self, height: int, width: int) -> Bool:
        segmentation = self.segmentation
        if isinstance(segmentation, tuple):
            path, value = segmentation
            labels = read_labels(path)
            return labels == value if value else labels > 0
        if isinstance(segmentation, list):
            return _fill_polygons(segmentation, height, width)
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(
                f"it is {segmentation['size'][1]} x {segmentation['size'][0]}, its photo {width} x {height}"
            )
        counts = segmentation["counts"]
        return rle.decode(
            Rle(size=[height, width], counts=counts)
            if isinstance(counts, str)
            else rle.from_runs(counts, height, width)
        )


@dataclass(frozen=True)
class Photo:
    """A photo and its masks, crowds included. path: of the photo, absolute or below the working directory; notes: see
    `pipelines.notes`. size (width, height), frame: as the annotations state them; file: what states them.
    """

    path: Path
    regions: tuple[Region, ...]
    notes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    frame: Frame | None = None
    file: str = ""

    def image(self) -> Image:
        """In the frame of the annotations, see `pipelines.frames`, with the photo's notes. Raises DataError."""
        source, notes = ImageFile(self.path.name, str(self.path)), self.notes
        size = (self.regions[0].size() if self.regions else None) or self.size
        try:
            if not self.regions:
                return images.load(source, upright=False)
            image = load_annotated(source, self.frame, size, self.file)
        except ImageError as error:
            raise DataError(f"{self.path}: {error}") from error
        if size not in (None, (image.width, image.height)):
            notes += (f"photos are not of the sizes that {self.file} states",)
        return replace(image, notes=(*notes, *image.notes))

    def pixels(self) -> UInt8:
        """H x W x 3 uint8 RGB of `image`."""
        return self.image().pixels

    def mask(self, region: Region, height: int, width: int) -> Bool:
        """One of the photo's regions, height x width bool. Raises DataError that names the photo."""
        try:
            return region.decode(height, width)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error


class Source(Protocol):
    """Photos by number. categories: class names by id, "object" where the data set names none; notes: see
    `pipelines.notes`."""

    name: str
    categories: dict[int, str]
    notes: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Photo: ...


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
        document = _read_json(path)
        try:
            rows = {
                int(row["id"]): _Row(_file_name(row), _size(row), stated(row, document)) for row in document["images"]
            }
            by_photo = defaultdict(list)
            for row in document["annotations"]:
                by_photo[int(row["image_id"])].append(
                    [row["segmentation"], int(row.get("category_id", 1)), bool(row.get("iscrowd", 0))]
                )
            names = {int(row["id"]): str(row["name"]) for row in document.get("categories", [])}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} does not hold COCO annotations: {type(error).__name__} {error}") from error
        lost = sorted(set(by_photo) - set(rows))
        if lost:
            raise DataError(f"{path}: annotations of photo {lost[0]}, which the file does not list")
        annotated = [(row, json.dumps(by_photo[key])) for key, row in rows.items() if key in by_photo]
        used = {row[1] for rows_of_photo in by_photo.values() for row in rows_of_photo}
        self.categories = dict.fromkeys(sorted(used), "object") | names
        listed = [row.name for row, _ in annotated]
        self._root = _photo_root(path, photos, listed[:1])
        files = find_files(self._root, listed)
        missing = [name for name in listed if name not in files.found]
        if missing:
            raise DataError(f"{path}: photos are not in {self._root}: {counted_images(missing)}")
        self.notes: Sequence[str] = files.notes(str(self._root))
        self._photos = [(row._replace(name=files.found[row.name]), regions) for row, regions in annotated]
        self._file = path.name

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Photo:
        (name, size, frame), annotations = self._photos[index]
        regions = tuple(Region(*row) for row in json.loads(annotations))
        return Photo(_inside(self._root, name), regions, size=size, frame=frame, file=self._file)


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
        document = _read_json(file)
        try:
            image = document["image"]
            path, notes = _beside(file, image["file_name"])
            regions = tuple(Region(row["segmentation"]) for row in document["annotations"])
            return Photo(path, regions, notes, _size(image), stated(image, document), self.name)
        except (KeyError, TypeError) as error:
            raise DataError(f"{file} does not hold SA-1B annotations: {type(error).__name__} {error}") from error


class PngSource:
    """Folders `images/` and `masks/`. Photo `a.jpg` has `masks/a.png`, whose values number the objects (0: none), or a
    folder `masks/a/` with one PNG per object (above 0: the object); or `a.jpg.png` or `a.jpg/`, as evsam calls them."""

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
        if masks.is_dir():
            return Photo(photo, tuple(Region((part, 0)) for part in sorted(masks.glob("*.png"))), file=self.name)
        try:
            values = [int(value) for value in np.unique(read_labels(masks)) if value]
        except OSError as error:
            raise DataError(f"{photo}: its masks cannot be read: {error}") from error
        return Photo(photo, tuple(Region((masks, value)) for value in values), file=self.name)


def open_source(path: Path, photos: Path | None = None) -> Source:
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
    return source


def find_source(path: Path, photos: Path | None = None) -> Source | None:
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


@lru_cache(maxsize=2)  # a photo's regions are read one by one
def read_labels(path: Path) -> UInt8:
    """A mask PNG's values, H x W; palette images give their indices. Raises OSError when it cannot be read."""
    with _plain_errors(path), path.open("rb") as file:
        picture = PngImageFile(needed_of_png(file, images.MAX_PIXELS).file, "")
        if picture.mode not in ("1", "L", "P", "I", "I;16"):
            raise OSError(f"{path} is a {picture.mode} image: a mask has one channel")
        return np.asarray(picture)


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Turn what Pillow raises for broken files into OSError."""
    try:
        yield
    except (ImageError, SyntaxError, ValueError) as error:
        raise OSError(f"{path} is no PNG that can be read: {error}") from error


def _fill_polygons(polygons: list[list[float]], height: int, width: int) -> Bool:
    """The union of polygons x1, y1, x2, y2, ...; those of fewer than three corners have no area."""
    polygons = [polygon for polygon in polygons if len(polygon) >= 6]
    if not polygons:
        return np.zeros((height, width), np.bool_)
    reach = max(float(np.abs(np.asarray(polygon, np.float64)).max()) for polygon in polygons)
    if not reach <= 2 * max(height, width):
        raise ValueError(f"a polygon's corner lies at {reach:g}, far outside of the photo")
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return np.asarray(coco_mask.decode(merged), dtype=np.bool_)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


def _file_name(row: dict[str, Any]) -> str:
    """LVIS rows have no file_name: the last two parts of coco_url name the folder and the file."""
    return str(row["file_name"]) if "file_name" in row else "/".join(str(row["coco_url"]).split("/")[-2:])


def _size(row: dict[str, Any]) -> tuple[int, int] | None:
    width, height = row.get("width"), row.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _inside(root: Path, name: str) -> Path:
    """root / name, which must stay below root."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"photo {name!r} lies outside of {root}")
    return path


def _beside(file: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The photo of that name in the folder of its annotations, and notes."""
    path = _inside(file.parent, name)
    if path.is_file():
        return path, ()
    matching = match([name], [entry.name for entry in file.parent.iterdir() if entry.suffix.lower() in PHOTO_SUFFIXES])
    if name not in matching.found:
        raise DataError(f"{file}: there is no photo {name!r} beside it")
    return file.parent / matching.found[name], tuple(matching.notes(str(file.parent)))


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
