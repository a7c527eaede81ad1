"""What classes are called, and the ids that files use for them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pipelines.errors import UsageError
from pipelines.names import folded
from pipelines.types import Category

# The 80 classes of COCO 2014/2017 in the order of their ids, which run from 1 to 90 with gaps.
# Lin et al., "Microsoft COCO: Common Objects in Context"; the ids are those of its annotation files.
# fmt: off
_COCO_NAMES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck",
    9: "boat", 10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench",
    16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear",
    24: "zebra", 25: "giraffe", 27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase",
    34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat",
    40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle",
    46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl", 52: "banana", 53: "apple",
    54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza", 60: "donut",
    61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet",
    72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone", 78: "microwave",
    79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book", 85: "clock", 86: "vase",
    87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}
# fmt: on

COCO = tuple(Category(id, name) for id, name in _COCO_NAMES.items())

OBJECT = Category(1, "object")
"""The class of boxes that come without one."""


def from_names(names: Sequence[str]) -> tuple[Category, ...]:
    """Categories for a model's classes, in its order: COCO's own ids if they are COCO's 80, else index + 1."""
    if tuple(names) == tuple(category.name for category in COCO):
        return COCO
    return tuple(Category(index, name) for index, name in enumerate(names, 1))


def select(categories: Sequence[Category], wanted: Sequence[str]) -> list[int]:
    """Positions in `categories` of those wanted, each given by its name (any case) or its id.

    Raises UsageError for a class that is not there, with the names most like it.
    """
    positions: list[int] = []
    for text in wanted:
        key = folded(text.strip())
        named = [i for i, category in enumerate(categories) if folded(category.name) == key]
        found = named or [i for i, category in enumerate(categories) if str(category.id) == key]
        if not found:
            raise UsageError(f"the detector has no class {text!r}; {_suggest(categories, key)}")
        positions += found
    return sorted(set(positions))


def _suggest(categories: Sequence[Category], key: str) -> str:
    names = {folded(category.name): category.name for category in categories}
    close = difflib.get_close_matches(key, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(names[name]) for name in close)}?"
    some = ", ".join(f"{category.name} ({category.id})" for category in categories[:10])
    return f"it has {len(categories)}: {some}{', ...' if len(categories) > 10 else ''}"
