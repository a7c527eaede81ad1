"""YOLO's text files: a line an object, shares of the image (ultralytics, docs/datasets/segment and /detect).

`class cx cy w h [score]` is a box, `class x1 y1 x2 y2 x3 y3 ... [score]` the outline of a mask; where data.yaml has
kpt_shape, keypoints follow a box. Photos are beside the texts, or where `labels` in a path becomes `images`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pipelines import coco
from pipelines.categories import from_names
from pipelines.errors import DataError, ImageError
from pipelines.files import reading
from pipelines.images.header import upright_size
from pipelines.labels import Asked, Labels
from pipelines.labels.classes import Classes, find_classes, needed_names
from pipelines.labels.files import label_files
from pipelines.labels.instances import image_record, of_box, of_polygons
from pipelines.labels.left_out import LeftOut
from pipelines.labels.photos import Photos
from pipelines.records import InstanceRecord, Record

_NOT_LABELS = ("classes.txt", "labels.txt")
_FARTHEST = 1.01
"""Shares may be as much above 1; ultralytics allows the same."""
_BOX = 5
_TRIANGLE = 7


@dataclass(frozen=True)
class _File:
    """A text. name: its path below the root, without a folder `labels`; photo: of it, where one is needed and there."""

    path: Path
    name: str
    photo: Path | None = None


def read(path: Path, asked: Asked) -> Labels:
    """path: a text, or a folder of them. See `pipelines.labels`."""
    root = path if path.is_dir() else path.parent
    texts = _texts(path)
    classes = find_classes(root)
    numbers = _classes_of(texts)
    known = needed_names(path, numbers, classes, asked.names)
    left_out = LeftOut()
    files = [_File(text, name) for text, name in zip(texts, _names(root, texts), strict=True)]
    photos: dict[str, Path] = {}
    if asked.masks:
        files = _with_photos(files, asked.photos, left_out)
        photos = {file.name: file.photo for file in files if file.photo}
        if files and not photos and not asked.sizes:
            raise DataError(f"{path}: no photo was found, whose size its labels need: name their folder with --photos")
    categories = from_names(known.names)
    reader = _Reader(known, [category.id for category in categories], asked.masks, asked.sizes, left_out)
    return Labels(
        categories,
        (reader.record(file) for file in files),
        len(files),
        left_out,
        photos,
        of_files=not asked.masks,
        shares=not asked.masks,
    )


def _texts(path: Path) -> list[Path]:
    """In folders called `labels` alone, where there are any."""
    if not path.is_dir():
        return [path]
    texts = [file for file in label_files(path, (".txt",)) if file.name not in _NOT_LABELS]
    inside = [file for file in texts if "labels" in file.relative_to(path).parts[:-1]]
    return inside or texts


def _names(root: Path, texts: Sequence[Path]) -> list[str]:
    return ["/".join(p for p in text.relative_to(root).parts if p != "labels") for text in texts]


def _classes_of(texts: Sequence[Path]) -> list[int]:
    """The classes that are used."""
    used: set[int] = set()
    for text in texts:
        for number, tokens in _lines(text):
            with coco.named(f"{text}: line {number}"):
                used.add(_class(tokens))
    return sorted(used)


def _with_photos(files: Sequence[_File], folder: Path | None, left_out: LeftOut) -> list[_File]:
    """Each text with its photo, and called as that is. Photos without a text are told. folder: of the photos, None for
    where each text has its own."""
    groups: dict[Photos, dict[str, _File]] = {}
    if folder:
        groups[Photos(folder)] = {file.name: file for file in files}
    else:
        by_parent = {parent: Photos(_images_of(parent), deep=False) for parent in {file.path.parent for file in files}}
        for file in files:
            groups.setdefault(by_parent[file.path.parent], {})[file.path.name] = file
    found: dict[str, Path] = {}
    for photos, texts in groups.items():
        found |= {texts[name].name: photo for name, photo in photos.beside(list(texts)).items()}
        for photo in photos.rest():
            left_out.add("photo without a text file", photo.name)
    return [
        replace(file, name=str(PurePosixPath(file.name).with_name(found[file.name].name)), photo=found[file.name])
        if file.name in found
        else file
        for file in files
    ]


def _images_of(folder: Path) -> Path:
    """Where the photos of labels in a folder are: ultralytics swaps the last `labels` of the path for `images`."""
    parts = list(folder.resolve().parts)
    if "labels" in parts:
        last = len(parts) - 1 - parts[::-1].index("labels")
        images = Path(*parts[:last], "images", *parts[last + 1 :])
        if images.is_dir():
            return images
    return folder


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that holds any."""
    with reading(path, "a YOLO text file"):
        text = path.read_text(encoding="utf-8-sig")
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.split():
            yield number, words


def _class(words: Sequence[str]) -> int:
    try:
        value = float(words[0])
    except ValueError:
        value = -1.0
    if not (0 <= value < 2**31 and value.is_integer()):
        raise DataError(f"its class is {coco.told(words[0])}, not a whole number from 0")
    return int(value)


@dataclass(frozen=True)
class _Reader:
    classes: Classes
    ids: Sequence[int]
    masks: bool
    sizes: Mapping[str, tuple[int, int]]
    left_out: LeftOut

    def record(self, file: _File) -> Record:
        size = (1, 1)
        if self.masks:
            try:
                size = self._size(file)
            except ImageError as error:
                return Record(file.name, 0, 0, 0, "failed", str(error))
        instances = []
        for number, words in _lines(file.path):
            with coco.named(f"{file.path}: line {number}"):
                instances.append(self._instance(words, size, file.name))
        return image_record(file.name, size, instances)

    def _size(self, file: _File) -> tuple[int, int]:
        known = self.sizes.get(str(PurePosixPath(file.name).with_suffix("")))
        if known is None and file.photo is None:
            raise ImageError(f"there is no photo for {file.path.name}, whose size its labels need")
        return known or upright_size(file.photo or file.path)

    def _instance(self, words: list[str], size: tuple[int, int], name: str) -> InstanceRecord:
        category_id, count = self.ids[_class(words)], len(words) - 1
        values = _shares(words[1:])
        if self.classes.keypoints:
            if count not in (4, 4 + self.classes.keypoints):
                raise DataError(
                    f"it has {count} numbers after the class, not a box and {self.classes.keypoints} of keypoints"
                )
            if count > 4:
                self.left_out.add("object's keypoints", name)
            return self._box(category_id, values[:4], size)
        if count < 4:
            raise DataError(f"it has {count} numbers after the class: a box has four, an outline six or more")
        scored = count % 2 == 1
        score = _score(values[-1]) if scored else 1.0
        if count <= _BOX:
            return self._box(category_id, values[:4], size, score)
        if count == _TRIANGLE - 1:
            self.left_out.add(
                "line of 7 numbers", name, read="read as triangle; a box with score and track id looks alike"
            )
        corners = values[: count - scored]
        _check_shares(corners)
        points = corners.reshape(-1, 2) * size
        return of_polygons(category_id, [points.ravel().tolist()], size, score, masks=self.masks)

    def _box(
        self, category_id: int, shares: NDArray[np.float64], size: tuple[int, int], score: float = 1.0
    ) -> InstanceRecord:
        _check_shares(shares)
        cx, cy, w, h = (shares.reshape(2, 2) * size).ravel().tolist()
        return of_box(category_id, (cx - w / 2, cy - h / 2, w, h), score)


def _shares(words: Sequence[str]) -> NDArray[np.float64]:
    try:
        values = np.array(words, np.float64)
    except ValueError:
        wrong = next(word for word in words if not _is_number(word))
        raise DataError(f"it holds {coco.told(wrong)}, not a number") from None
    if not np.isfinite(values).all():
        raise DataError("it holds a value that is not a finite number")
    return values


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _check_shares(values: NDArray[np.float64]) -> None:
    wrong = values[(values < 1 - _FARTHEST) | (values > _FARTHEST)]
    if len(wrong):
        raise DataError(f"it holds {wrong[0]:g}: shares of the image are from 0 to 1: are these pixels?")


def _score(value: float) -> float:
    if not 0 <= value <= 1:
        raise DataError(f"its last number is {value:g}: a score is from 0 to 1, and track ids are not read")
    return float(value)
