"""COCO's entries, checked in one place, and its segmentations as masks: for truths, results, box files and training.

Every function takes an entry as it stands in the JSON and raises DataError that names the field and its value; the
caller puts the file and the entry before it, see `named`. A whole number may be written as a float (1.0), as tables
write it, as long as it has all its digits.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from pipelines import polygons, rle
from pipelines.errors import DataError
from pipelines.types import Category, Rle

FARTHEST = 1e15
"""Numbers are below this: every pixel of a larger one is uncertain, and its square no longer of use."""
_NUMBERS = frozenset((int, float))
_MOST = 2**63 - 1
_EXACT = 2**53
"""From here on a float skips whole numbers."""
_MOST_PIXELS = 2**32
"""Run lengths of masks are 32-bit numbers."""
_SHOWN = 60
"""Letters of a value that a message shows."""
_NAMED = 3
"""Entries that a note names."""
_LEAST = 6
"""Numbers of a polygon that covers something."""


@contextmanager
def named(entry: str) -> Iterator[None]:
    """Put `entry`, as in "annotation 3", before the message of a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{entry}: {error}") from error


def told(value: Any) -> str:
    """A value as it stands in the JSON, on one line, its end left out where it is long."""
    try:
        text = json.dumps(value)
    except (RecursionError, ValueError):  # nested too deep; an integer of thousands of digits
        text = "a value that is too long to be shown"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def fields(entry: Any) -> dict[str, Any]:
    """The entry, which must be a JSON object."""
    if not isinstance(entry, dict):
        raise DataError(f"it is {told(entry)}, not an object of fields")
    return entry


def has(entry: dict[str, Any], field: str) -> bool:
    """Whether the field says anything: it is there, and neither null nor an empty list."""
    return entry.get(field) not in (None, [])


def needed(entry: dict[str, Any], field: str) -> Any:
    """The value of a field that must be there."""
    if field not in entry:
        raise DataError(f"it has no '{field}'")
    return entry[field]


def is_whole(value: Any) -> bool:
    """Whether it is a whole number of 64 bits, or a float that is one and has all its digits."""
    if type(value) is int:
        return -_MOST <= value <= _MOST
    return type(value) is float and value.is_integer() and abs(value) < _EXACT


def whole_number(entry: dict[str, Any], field: str, *, least: int = 0) -> int:
    """A field that must be a whole number from `least` to 2^63 - 1."""
    value = needed(entry, field)
    if is_whole(value) and value >= least:
        return int(value)
    if type(value) is float and _EXACT <= abs(value) < math.inf:
        raise DataError(f"'{field}' is {told(value)}, a float of 2^53 or more, which has lost digits: write it whole")
    raise DataError(f"'{field}' is {told(value)}, not a whole number from {least} to 2^63 - 1")


def known_id(entry: dict[str, Any], field: str, known: Container[int], where: str) -> int:
    """A field that must be one of the ids known. where: what holds them, for the message."""
    id = whole_number(entry, field)
    if id not in known:
        raise DataError(f"'{field}' is {id}, which is not in {where}")
    return id


def number(entry: dict[str, Any], field: str) -> float:
    """A field that must be a finite number."""
    value = needed(entry, field)
    if not are_numbers((value,)):
        _check_each((value,), f"'{field}' is")
    return float(value)


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all are finite numbers and their sum, whatever their signs, is not too large: what most files hold."""
    try:
        return _NUMBERS.issuperset(map(type, values)) and sum(map(abs, values)) < FARTHEST
    except OverflowError:  # an integer that no float holds
        return False


def _check_each(values: Sequence[Any], what: str) -> None:
    """Raise DataError for the first that is not a finite number, or too large. what: how its message starts."""
    for value in values:
        if type(value) not in _NUMBERS:
            raise DataError(f"{what} {told(value)}, not a number")
        if not are_numbers((value,)):
            finite = type(value) is int or math.isfinite(value)
            raise DataError(f"{what} {told(value)}, {'too large a number' if finite else 'not a finite number'}")


def box(entry: dict[str, Any], field: str = "bbox") -> tuple[float, float, float, float]:
    """A field that must be a box: left, top, width and height, neither side below 0."""
    x, y, w, h = four_numbers(entry, field)
    if w < 0 or h < 0:
        raise DataError(f"'{field}' is {told(entry[field])}, whose width or height is below 0")
    return x, y, w, h


def four_numbers(entry: dict[str, Any], field: str = "bbox") -> tuple[float, float, float, float]:
    """A field that must be a box in whatever format."""
    value = needed(entry, field)
    if not isinstance(value, list) or len(value) != 4:
        raise DataError(f"'{field}' is {told(value)}, not a list of four numbers")
    if not are_numbers(value):
        _check_each(value, f"'{field}' is {told(value)}, which holds")
    a, b, c, d = map(float, value)
    return a, b, c, d


def text(entry: dict[str, Any], field: str) -> str:
    """A field that must be text."""
    value = needed(entry, field)
    if not isinstance(value, str):
        raise DataError(f"'{field}' is {told(value)}, not text")
    return value


def flag(entry: dict[str, Any], field: str) -> bool:
    """A field that says yes or no, as 1 or 0 or in words of JSON; no where it is missing or null."""
    value = entry.get(field)
    if not (value is None or isinstance(value, bool) or (is_whole(value) and value in (0, 1))):
        raise DataError(f"'{field}' is {told(value)}, neither 0 nor 1")
    return bool(value)


def ids(entry: dict[str, Any], field: str) -> tuple[int, ...]:
    """A field that must be a list of ids."""
    values = needed(entry, field)
    if not isinstance(values, list):
        raise DataError(f"'{field}' is {told(values)}, not a list of ids")
    return tuple(whole_number({field: value}, field) for value in values)


def lists(document: Any, needed: Sequence[str] = ("images", "annotations", "categories")) -> dict[str, list[Any]]:
    """The lists of COCO's ground truth by name, those that are needed."""
    for name in needed:
        if not isinstance(document, dict) or not isinstance(document.get(name), list):
            raise DataError(f"COCO ground truth has a list {name!r}, this has none (a results file is itself a list)")
    return {name: document[name] for name in needed}


def check_distinct(entries: str, field: str, values: Sequence[Any]) -> None:
    """Raise DataError when two of the `entries` of a file have the same value of a field."""
    if len(set(values)) < len(values):
        value, _ = Counter(values).most_common(1)[0]
        raise DataError(f"two of its {entries} have the same {field}, {told(value)}")


def image_name(entry: dict[str, Any]) -> str | None:
    """What an image is called: its file_name, or the last two parts of coco_url, as LVIS has it (`val2017/1.jpg`).

    None where it has neither.
    """
    if entry.get("file_name") is not None:
        return text(entry, "file_name")
    if entry.get("coco_url") is not None:
        return "/".join(text(entry, "coco_url").split("/")[-2:])
    return None


def needed_name(entry: dict[str, Any]) -> str:
    """`image_name`, which must be there."""
    name = image_name(entry)
    if not name:
        raise DataError("it has neither a 'file_name' nor a 'coco_url'")
    return name


def inner_name(entry: dict[str, Any]) -> str:
    """`needed_name` as a relative POSIX path, which must stay in the folder of the images."""
    name = needed_name(entry)
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"it is named {told(name)}, which leaves the folder of the images")
    return str(path)


def image_size(entry: dict[str, Any]) -> tuple[int, int]:
    """The width and height of an image."""
    width, height = whole_number(entry, "width", least=1), whole_number(entry, "height", least=1)
    if width * height >= _MOST_PIXELS:
        raise DataError(f"it is said to be {width} x {height}: its masks would have too many pixels")
    return width, height


def stated_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """`image_size`, None where the entry does not say: a side is missing, null or 0."""
    return image_size(entry) if entry.get("width") and entry.get("height") else None


def category(entry: dict[str, Any], *, least: int = 0) -> Category:
    """least: what its id may be."""
    return Category(whole_number(entry, "id", least=least), text(entry, "name"))


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """A segmentation of any kind -> Rle of an image: polygons, uncompressed counts or compressed ones.

    Polygons are drawn as pycocotools draws them; those of fewer than three corners cover nothing and are left out, see
    `flat_polygons`.
    """
    if isinstance(segmentation, dict):
        return _read_counts(segmentation, height, width)
    if not isinstance(segmentation, list):
        raise DataError(f"'segmentation' is {told(segmentation)}, neither polygons nor run lengths")
    for polygon in segmentation:
        _check_polygon(polygon)
    return polygons.draw([polygon for polygon in segmentation if len(polygon) >= _LEAST], height, width)


def flat_polygons(segmentation: Any) -> int:
    """How many of its polygons cover nothing, because they have fewer than three corners."""
    of_list = segmentation if isinstance(segmentation, list) else []
    return sum(isinstance(polygon, list) and len(polygon) < _LEAST for polygon in of_list)


def note_of_flat(flat: Mapping[int, int], noun: str, file: str) -> list[str]:
    """What is said of them. flat: number of an entry -> how many it has; noun: what an entry is."""
    if not flat:
        return []
    count = sum(flat.values())
    what = f"{count} polygons, which cover" if count > 1 else "a polygon, which covers"
    where = numbered(noun, list(flat))
    return [f"left out of {file}: {what} nothing with fewer than three corners ({where})"]


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """`annotation 3`, or of several the first: `5 annotations, such as 3, 8`."""
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    nouns = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{len(numbers)} {nouns}, such as {', '.join(map(str, numbers[:_NAMED]))}"


def _check_polygon(polygon: Any) -> None:
    """Numbers x and y in turn, finite and not too large."""
    if not isinstance(polygon, list) or len(polygon) % 2:
        raise DataError(f"'segmentation' holds {told(polygon)}, not a polygon: a list of numbers x, y, x, y, ...")
    if not are_numbers(polygon):
        _check_each(polygon, "'segmentation' has a polygon with a corner at")


def _read_counts(segmentation: dict[str, Any], height: int, width: int) -> Rle:
    for field in ("size", "counts"):
        if field not in segmentation:
            raise DataError(f"'segmentation' has no '{field}'")
    size, counts = segmentation["size"], segmentation["counts"]
    if size != [height, width]:
        raise DataError(f"'segmentation' is of size {told(size)}, but its image is {height} x {width} (height x width)")
    if isinstance(counts, str):
        mask = Rle(size=[height, width], counts=counts)
        rle.check(mask)
        return mask
    if not isinstance(counts, list) or not all(is_whole(run) and run >= 0 for run in counts):
        raise DataError(f"'counts' of 'segmentation' is {told(counts)}, neither text nor a list of whole numbers")
    if sum(counts) != height * width:
        raise DataError(f"the run lengths of 'segmentation' do not fill {width} x {height} pixels")
    return rle.from_runs([int(run) for run in counts], height, width)
