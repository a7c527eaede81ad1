"""COCO's lists and their entries, checked in one place: of truths, results, box files and data sets to train on.

What reads a field takes an entry as it stands in the JSON and raises DataError that names the field and its value; the
file and the entry are put before it, see `named` and `each`. A whole number may be written as a float (1.0), as tables
write it, as long as it has all its digits. `pipelines.segmentations` reads the masks.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, TypeVar

from pipelines import frames
from pipelines.errors import DataError
from pipelines.types import Category, Frame

T = TypeVar("T")

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


@contextmanager
def named(entry: str) -> Iterator[None]:
    """Put `entry`, as in "annotation 3", before the message of a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{entry}: {error}") from error


def each(noun: str, entries: Iterable[Any], read: Callable[[int, dict[str, Any]], T]) -> list[T]:
    """What `read` makes of each number and entry, which must be an object. noun: what an entry is, for the message."""
    made = []
    for number, entry in enumerate(entries):
        try:
            made.append(read(number, fields(entry)))
        except DataError as error:
            raise DataError(f"{noun} {number}: {error}") from error
    return made


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
        check_numbers((value,), f"'{field}' is")
    return float(value)


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all are finite numbers and their sum, whatever their signs, is not too large: what most files hold."""
    try:
        return _NUMBERS.issuperset(map(type, values)) and sum(map(abs, values)) < FARTHEST
    except OverflowError:  # an integer that no float holds
        return False


def check_numbers(values: Sequence[Any], what: str) -> None:
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
        check_numbers(value, f"'{field}' is {told(value)}, which holds")
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


def check_distinct(noun: str, field: str, values: Sequence[Any]) -> None:
    """Raise DataError when two entries of a file have the same value of a field. noun: what they are."""
    if len(set(values)) < len(values):
        value, _ = Counter(values).most_common(1)[0]
        raise DataError(f"two of its {noun} have the same {field}, {told(value)}")


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


def images(
    document: dict[str, Any], read: Callable[[int, dict[str, Any], Frame | None], T], *, least: int = 0
) -> dict[int, T]:
    """By id what `read` makes of each image: its id, its entry, the frame stated for it. least: id it may have."""

    def with_id(_: int, entry: dict[str, Any]) -> tuple[int, T]:
        id = whole_number(entry, "id", least=least)
        return id, read(id, entry, frames.stated(entry, document))

    listed = each("image", document["images"], with_id)
    check_distinct("images", "id", [id for id, _ in listed])
    return dict(listed)


def categories(document: dict[str, Any], *, least: int = 0) -> list[Category]:
    """Those that are listed. least: id there may be."""
    return each(
        "category",
        document.get("categories") or (),
        lambda _, entry: Category(whole_number(entry, "id", least=least), text(entry, "name")),
    )


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """`annotation 3`, or of several the first: `5 annotations, such as 3, 8`."""
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    nouns = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{len(numbers)} {nouns}, such as {', '.join(map(str, numbers[:_NAMED]))}"
