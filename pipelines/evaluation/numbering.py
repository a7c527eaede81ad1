"""Ids that are counted otherwise than the truth's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from pipelines.types import Int64

Numbers = Callable[[Int64, Sequence[int]], Int64]
"""Ids as they stand, and all ids of the truth in order -> what they mean; -1 for nothing."""


def _places_from(start: int) -> Numbers:
    def ids(numbers: Int64, ordered: Sequence[int]) -> Int64:
        places = numbers - start
        known = np.array([*ordered, -1], np.int64)
        return known[np.where((places >= 0) & (places < len(ordered)), places, len(ordered))]

    return ids


NUMBERINGS: Mapping[str, Numbers] = {
    "counted from 0, one lower than the truth's": lambda numbers, _: numbers + 1,
    "one higher than the truth's": lambda numbers, _: numbers - 1,
    "places in a sorted list, from 1": _places_from(1),
    "places in a sorted list, from 0": _places_from(0),
}
"""What ids may be."""


def hint(ids: Collection[int], known: Collection[int]) -> str:
    """What ids of a file may be when not all of them are known; how many are, where nothing speaks for a reason."""
    numbers, ordered = np.array(sorted(set(ids)), np.int64), sorted(known)
    for what, read in NUMBERINGS.items():
        if set(read(numbers, ordered).tolist()) <= set(known):
            return f"are the file's {what}?"
    found = len(set(ids) & set(known))
    return f"{found or 'none'} of the file's {len(numbers)} are; are these results for another truth?"
