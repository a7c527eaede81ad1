"""The names of classes that formats know by number, as `data.yaml`, `classes.txt` or the user gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines import coco
from pipelines.categories import COCO
from pipelines.errors import DataError, UsageError
from pipelines.files import reading
from pipelines.types import Category

_YAML = (".yaml", ".yml")
_LARGEST = 2**20
"""Bytes of a file of names."""
_LISTS = ("classes.txt", "obj.names", "labels.txt")
"""What LabelImg, Darknet and CVAT call a list of names."""
MOST = 100_000


@dataclass(frozen=True)
class Classes:
    """names: by number. keypoints: how many numbers tell of each object's keypoints, 0 where it has none."""

    names: tuple[str, ...]
    keypoints: int = 0


def from_labels(labels: Iterable[str]) -> dict[str, Category]:
    """Categories of names without numbers, in the order in which they come up: COCO's where all are of its 80."""
    names = list(dict.fromkeys(labels))
    of_coco = {category.name: category for category in COCO}
    if all(name in of_coco for name in names):
        return {name: of_coco[name] for name in names}
    return {name: Category(number, name) for number, name in enumerate(names, 1)}


def parse_names(text: str) -> tuple[str, ...]:
    """What `--class-names` says: names with commas between them, or a file of them. Raises UsageError, DataError."""
    path = Path(text)
    if path.suffix in (*_YAML, ".txt", ".names"):
        return read_classes(path).names
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"--class-names {coco.told(text)} has an empty name: say cat,dog or the name of a file")
    return names


def find_classes(folder: Path) -> Classes | None:
    """What the files around labels say: those in their folder, or else in the two above it. Raises DataError where two
    of them differ."""
    for place in (folder, *folder.resolve().parents[:2]):
        try:
            files = sorted(file for file in place.iterdir() if file.suffix in _YAML or file.name in _LISTS)
        except OSError:
            continue
        known = {file: found for file in files if (found := _read(file, strict=file.name in _LISTS))}
        if len({found.names for found in known.values()}) > 1:
            those = " and ".join(file.name for file in known)
            raise DataError(f"{place}: {those} name different classes: say --class-names FILE")
        if known:
            return next(iter(known.values()))
    return None


def read_classes(path: Path) -> Classes:
    """Raises DataError for a file that names no classes."""
    found = _read(path, strict=True)
    if found is None:
        raise DataError(f"{path} has no 'names' of classes")
    return found


def _read(path: Path, *, strict: bool) -> Classes | None:
    with reading(path, "a file of class names"):
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path} is larger than a file of class names")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix not in _YAML:
            names = [line.strip() for line in text.splitlines()]
            while names and not names[-1]:
                names.pop()
            return Classes(_checked(path, names))
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or "names" not in document:
        return None
    return Classes(_checked(path, document["names"]), _keypoints(path, document))


def _checked(path: Path, names: Any) -> tuple[str, ...]:
    """From a list, or a mapping whose keys are 0, 1, 2, ..."""
    if isinstance(names, dict):
        numbers = sorted(key for key in names if type(key) is int)
        if len(numbers) != len(names) or numbers != list(range(len(names))):
            raise DataError(f"{path}: the numbers of 'names' are not 0 to {len(names) - 1}")
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not names or len(names) > MOST:
        raise DataError(f"{path}: 'names' is no list of names")
    for number, name in enumerate(names):
        if not isinstance(name, str | int | float) or not str(name).strip():
            raise DataError(f"{path}: the name of class {number} is no text")
    return tuple(str(name).strip() for name in names)


def _keypoints(path: Path, document: dict[Any, Any]) -> int:
    shape = document.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int and 0 < n < 1000 for n in shape):
        raise DataError(f"{path}: 'kpt_shape' is not [number of points, 2 or 3]")
    return int(shape[0] * shape[1])


def needed_names(where: Path, used: Sequence[int], classes: Classes | None, given: Sequence[str] | None) -> Classes:
    """The classes, which must name all numbers that are used. given: by the user, before what is found."""
    if given is not None:
        classes = Classes(tuple(given), classes.keypoints if classes else 0)
    if classes is None:
        raise DataError(
            f"{where} has no data.yaml and no classes.txt beside it: name its classes in their order, "
            "with --class-names cat,dog or --class-names FILE"
        )
    if used and max(used) >= len(classes.names):
        raise DataError(f"{where} has a class {max(used)}, but only {len(classes.names)} are named, from 0 on")
    return classes


def categories_of_ids(ids: Iterable[int], given: Sequence[str] | None) -> tuple[Category, ...]:
    """What ids that nothing names stand for: given names from 1 on, else COCO's classes where all are of its 80, else
    "category 7"."""
    used = sorted(set(ids))
    if given is not None:
        return tuple(Category(number, name) for number, name in enumerate(given, 1))
    if set(used) <= {category.id for category in COCO}:
        return COCO
    return tuple(Category(id, f"category {id}") for id in used)
