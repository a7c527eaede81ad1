"""One id per pixel."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines import rle
from pipelines.outputs.flatten import flatten
from pipelines.types import Bool


@settings(max_examples=200)
@given(st.lists(arrays.arrays(np.bool_, (9, 11)), max_size=4), st.integers(0, 12))
def test_flat_labels_have_no_specks_and_report_what_was_done(masks: list[Bool], min_area: int) -> None:
    rles = [rle.encode(mask) for mask in masks]
    order = list(range(len(masks)))
    painted = np.zeros((9, 11), np.int32)
    for i in order:
        painted[masks[i]] = i + 1
    flat = flatten(rles, order, 9, 11, min_area)
    assert flat.removed - flat.filled == (painted > 0).sum() - (flat.labels > 0).sum()
    if min_area <= 1:
        assert flat.removed == flat.filled == 0
        np.testing.assert_array_equal(flat.labels, painted)
    covered, holes = flat.labels > 0, []
    if covered.any() and not covered.all():
        holes = parts_of(~covered)
        assert min(holes) >= min_area
    for i in order:
        for part in parts_of(flat.labels == i + 1):
            assert part >= min_area or 2 * part > masks[i].sum() or flat.filled


def parts_of(mask: Bool) -> list[int]:
    """Sizes of 8-connected parts, by flooding."""
    left, sizes = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        front, size = [left.pop()], 1
        while front:
            y, x = front.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front += near
            size += len(near)
        sizes.append(size)
    return sizes


def test_flat_labels_of_a_scene_made_up() -> None:
    mask = np.zeros((3, 40, 40), bool)
    mask[0, 5:35, 5:35] = True
    mask[0, 10:12, 10:12] = False  # a hole that nothing covers
    mask[1, 20:30, 20:30] = True
    mask[1, 1:3, 1:3] = True  # an island
    mask[2, 0:2, 38:40] = True  # small, and all there is of it
    flat = flatten([rle.encode(m) for m in mask], [0, 1, 2], 40, 40, min_area=9)
    assert (flat.filled, flat.removed) == (4, 4)
    expected = np.zeros((40, 40), int)
    expected[5:35, 5:35] = 1
    expected[20:30, 20:30] = 2
    expected[0:2, 38:40] = 3
    np.testing.assert_array_equal(flat.labels, expected)
