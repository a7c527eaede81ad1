"""The parts of a data set: for training, for validation and, where it is asked for, for a test.

An image's part follows from its name, so that it keeps it when others are added, on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import accumulate
from math import isclose

from pipelines.errors import UsageError
from pipelines.records import Record

PARTS = ("train", "val", "test")


def parse_split(text: str) -> tuple[float, ...]:
    """`"0.8,0.1,0.1"` -> the shares of PARTS, of which the last may be missing. Raises UsageError."""
    try:
        shares = tuple(map(float, text.split(",")))
    except ValueError:
        shares = ()
    if len(shares) not in (2, 3) or not all(0 < share < 1 for share in shares) or not isclose(sum(shares), 1):
        raise UsageError(
            f"--split {text!r} is not the shares of train, val and perhaps test, which make 1, such as 0.8,0.1,0.1"
        )
    return shares


def part_of(name: str, shares: Sequence[float]) -> str:
    """The part of the image of that name."""
    place = int.from_bytes(sha256(name.encode()).digest()[:8], "big") / 2**64
    return next(
        (part for part, end in zip(PARTS, accumulate(shares[:-1]), strict=False) if place < end), PARTS[len(shares) - 1]
    )


def empty_parts(kind: str, shares: Sequence[float], records: Callable[[], Iterable[Record]]) -> list[str]:
    """A note where a part has no image."""
    used = {part_of(record.name, shares) for record in records() if record.status != "failed"} if shares else set()
    lacking = [part for part in PARTS[: len(shares)] if part not in used]
    return (
        [f"the split of {kind} left {' and '.join(lacking)} without an image: give more, or other shares"]
        if lacking
        else []
    )
