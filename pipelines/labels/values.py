"""Numbers and names as text: read and checked."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath
from typing import Any

from pipelines import coco
from pipelines.errors import DataError
from pipelines.images import MAX_PIXELS
from pipelines.names import normal

_WHOLE = re.compile(r"\d{1,19}(\.0*)?")


def number(text: str, what: str) -> float:
    """A finite number that is not too large."""
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{what} is {coco.told(text)}, not a number") from None
    return value if abs(value) < coco.FARTHEST else coco.number({what: value}, what)


def whole(text: str, what: str, *, least: int = 0) -> int:
    """A whole number from `least` on; `3.0` is one."""
    value = int(text.partition(".")[0]) if _WHOLE.fullmatch(text.strip()) else -1
    if value < least:
        raise DataError(f"{what} is {coco.told(text)}, not a whole number from {least}")
    return value


def class_name(text: str) -> str:
    """What a class is called."""
    if not text.strip():
        raise DataError("the name of its class is empty")
    return text


def size(width: str, height: str) -> tuple[int, int]:
    """`size_of` of text."""
    return size_of(whole(width, "its width", least=1), whole(height, "its height", least=1))


def size_of(width: Any, height: Any) -> tuple[int, int]:
    """Width and height of an image, which must be of whole pixels, and no more than are ever decoded."""
    found = coco.image_size({"width": width, "height": height})
    if found[0] * found[1] > MAX_PIXELS:
        raise DataError(f"its image is said to be {found[0]} x {found[1]}, more than {MAX_PIXELS:,} pixels")
    return found


def name_below(folder: str, name: str, *, beside: bool = False) -> str:
    """What an image is called below the root, of which a file in `folder` says `name`: a relative POSIX path. Where it
    leaves the root, or is absolute, what is left when it does not; or with `beside`, as if it lay in the folder."""
    text = posixpath.normpath(posixpath.join(folder, re.sub(r"^([A-Za-z]:)?/+", "", normal(name))))
    if beside and text.startswith(".."):
        text = posixpath.join(folder, posixpath.basename(text))
    parts = [part for part in PurePosixPath(text).parts if part not in ("..", "/")]
    if not parts or "\0" in name or not name.strip():
        raise DataError(f"its image is called {coco.told(name)}, which names no file")
    return "/".join(parts)
