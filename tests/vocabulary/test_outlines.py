"""Outlines hold exactly the mask's pixels, whoever fills them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.output_cases import shapes

from pipelines import polygons, rle
from pipelines.outlines import Ring, joined, outlines
from pipelines.types import Bool

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def drawn(rings: list[Ring], mask: Bool) -> Bool:
    """As pycocotools fills polygons."""
    return rle.decode(polygons.draw([ring.corners.ravel().tolist() for ring in rings], *mask.shape))


def filled(ring: Ring, mask: Bool) -> Bool:
    """As OpenCV fills a polygon, whose corners are pixels: those of the ring, rounded down."""
    corners = ring.inset.astype(np.int32)
    return cv2.fillPoly(np.zeros(mask.shape, np.uint8), [corners], 1).astype(np.bool_)


@settings(max_examples=300)
@given(MASKS)
def test_outer_rings_less_holes_are_the_mask(mask: Bool) -> None:
    covered = np.zeros(mask.shape, np.int64)
    for outside, *holes in outlines(rle.encode(mask)):
        assert not outside.is_hole and all(ring.is_hole for ring in holes)
        for ring in (outside, *holes):
            covered += np.where(drawn([ring], mask), -1 if ring.is_hole else 1, 0)
            sides = np.abs(ring.corners - np.roll(ring.corners, 1, axis=0))
            assert (np.count_nonzero(sides, axis=1) == 1).all(), "edges are level or upright, and none is empty"
    assert np.array_equal(covered, mask)


@settings(max_examples=300)
@given(MASKS)
def test_parts_are_those_that_sides_join(mask: Bool) -> None:
    parts = outlines(rle.encode(mask))
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    assert len(parts) == count - 1
    for part in parts:
        own = drawn([joined(part)], mask)
        assert len(set(labels[own].tolist())) == 1, "joined, a part is a polygon that is exact"
    union = drawn([joined(part) for part in parts], mask) if parts else np.zeros_like(mask)
    assert np.array_equal(union, mask)


@settings(max_examples=300)
@given(MASKS)
def test_one_ring_of_all_is_exact_and_filled_with_bridges_where_pixels_are_filled(mask: Bool) -> None:
    parts = outlines(rle.encode(mask))
    rings = [ring for part in parts for ring in part]
    if not rings:
        return
    whole = joined(rings)
    assert np.array_equal(drawn([whole], mask), mask)
    assert filled(whole, mask)[mask].all(), "OpenCV adds bridges, and misses nothing"
    if len(parts) == 1:
        assert np.array_equal(filled(whole, mask), mask), "bridges to holes lie on the mask"


@pytest.mark.parametrize("mask", shapes())
def test_every_corner_of_every_ring_is_kept(mask: Bool) -> None:
    rings = [ring for part in outlines(rle.encode(mask)) for ring in part]
    whole = joined(rings)
    assert len(whole.corners) == sum(len(ring.corners) for ring in rings) + 2 * (len(rings) - 1)


def test_many_parts_take_little() -> None:
    mask = np.random.default_rng(0).random((130, 130)) < 0.3
    rings = [ring for part in outlines(rle.encode(mask)) for ring in part]
    assert len(rings) > 1000
    assert sum(len(ring.corners) for ring in rings) > 4096, "more than are looked at"
    assert np.array_equal(drawn([joined(rings)], mask), mask)


def test_nothing_has_no_outline() -> None:
    assert outlines(rle.encode(np.zeros((3, 4), np.bool_))) == []
