"""COCO's entries and polygons: what is a number, what is said of one that is not, and what a polygon covers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from pipelines import coco, polygons, rle, segmentations
from pipelines.errors import DataError

HUGE = 10**400


def drawn_by_pycocotools(some: list[list[float]], height: int, width: int) -> str:
    return coco_mask.merge(coco_mask.frPyObjects(some, height, width))["counts"].decode()


def corner(reach: float) -> st.SearchStrategy[float]:
    anywhere = st.floats(-reach, reach, allow_subnormal=False)
    return st.one_of(anywhere, anywhere.map(round), anywhere.map(lambda value: round(2 * value) / 2))


def outlines(reach: float) -> st.SearchStrategy[list[float]]:
    corners = st.lists(st.tuples(corner(reach), corner(reach)), min_size=3, max_size=9)
    return corners.map(lambda some: [value for one in some for value in one])


SIDE = st.integers(1, 60)
OUTLINE = st.one_of(outlines(60), outlines(300), outlines(3000))


@given(OUTLINE, SIDE, SIDE)
@settings(max_examples=400)
def test_crossings_give_the_mask_that_pycocotools_draws(outline: list[float], height: int, width: int) -> None:
    ours = polygons._draw_long(outline, height, width)
    assert ours["counts"] == drawn_by_pycocotools([outline], height, width)


@given(st.lists(OUTLINE, min_size=1, max_size=4), SIDE, SIDE)
def test_polygons_within_and_partly_outside_are_drawn_as_ever(some: list[list[float]], height: int, width: int) -> None:
    assert segmentations.to_rle(some, height, width)["counts"] == drawn_by_pycocotools(some, height, width)


def test_a_long_outline_joins_short_ones() -> None:
    far = [[-1e6, -1e6, 1e6, -1e6, 1e6, 20.5, -1e6, 20.5], [10.0, 30, 20, 30, 20, 40, 10, 40]]
    near = [[-9.0, -9, 99, -9, 99, 20.5, -9, 20.5], far[1]]
    assert segmentations.to_rle(far, 60, 50) == segmentations.to_rle(near, 60, 50)
    many = [[x, 2.0, x + 1, 2, x + 1, 5, x, 5] for x in range(0, 400, 2)]
    assert rle.area(segmentations.to_rle(many, 9, 400)) == 200 * 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts memory as Linux does")
@pytest.mark.parametrize(
    "polygon",
    [
        [-9e5, -9e5, 9e5, 9e5] * 2000,
        [-9e5, -9e5, 9e5, 9e5] * 200 + [5.0, 9e5],
        [0, 0, 1e14, 3, -1e14, 90],
        [0, 0, 10**14, 3, -(10**14), 90],
        [1e14, 1e14, 2e14, 1e14, 2e14, 2e14],
    ],
)
def test_long_outlines_take_little_memory(polygon: list[float]) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mask = segmentations.to_rle([polygon], 96, 96)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert 0 <= rle.area(mask) <= 96 * 96


def test_what_has_no_three_corners_covers_nothing() -> None:
    square = [10, 10, 40, 10, 40, 40, 10, 40]
    some = [[3, 3, 9, 9], square, [], [5, 5]]
    assert segmentations.to_rle(some, 60, 50)["counts"] == drawn_by_pycocotools([square], 60, 50)
    assert segmentations.flat_polygons(some) == 3 and segmentations.flat_polygons([square]) == 0
    for nothing in ([], [[]], [[1, 2]], [[1, 2, 3, 4]], [[1, 1, 5, 5, 9, 9]]):
        assert rle.area(segmentations.to_rle(nothing, 60, 50)) == 0


BAD_SEGMENTATIONS = {
    "'segmentation' is 5, neither polygons nor run lengths": 5,
    "'segmentation' is null, neither": None,
    "'segmentation' holds 1, not a polygon": [1, 2, 3, 4, 5, 6],
    "'segmentation' holds [1, 2, 3, 4, 5, 6, 7], not a polygon": [[1, 2, 3, 4, 5, 6, 7]],
    "a corner at NaN, not a finite number": [[1, 2, 3, 4, 5, float("nan")]],
    "a corner at -Infinity, not a finite number": [[1, 2, 3, 4, 5, float("-inf")]],
    "a corner at 1e+300, too large a number": [[1, 2, 3, 4, 5, 1e300]],
    "..., too large a number": [[1, 2, 3.5, 4, 5, HUGE]],
    "0..., too large a number": [[1, 2, 3, 4, 5, HUGE]],
    'a corner at "5", not a number': [[1, 2, 3, 4, 5, "5"]],
    "a corner at true, not a number": [[1, 2, 3, 4, 5, True]],
    "a corner at [5], not a number": [[1, 2, 3, 4, 5, [5]]],
    "'segmentation' has no 'counts'": {"size": [60, 50]},
    "'segmentation' has no 'size'": {"counts": "0"},
    "'segmentation' is of size [50, 60], but its image is 60 x 50 (height x width)": {"size": [50, 60], "counts": ""},
    "'counts' of 'segmentation' is [3000.5], neither": {"size": [60, 50], "counts": [3000.5]},
    "'counts' of 'segmentation' is [-1, 3001], neither": {"size": [60, 50], "counts": [-1, 3001]},
    "'counts' of 'segmentation' is null, neither": {"size": [60, 50], "counts": None},
    "do not fill 50 x 60 pixels": {"size": [60, 50], "counts": [5]},
}


@pytest.mark.parametrize("message", BAD_SEGMENTATIONS)
def test_what_is_no_mask_is_named(message: str) -> None:
    with pytest.raises(DataError) as caught:
        segmentations.to_rle(BAD_SEGMENTATIONS[message], 60, 50)
    assert message in str(caught.value) and len(str(caught.value)) < 200


def test_whole_floats_are_the_numbers_they_mean() -> None:
    entry = {"id": 7.0, "width": 50.0, "height": 60.0, "iscrowd": 1.0, "ids": [2.0, 3], "name": "a"}
    assert coco.whole_number(entry, "id") == 7 and type(coco.whole_number(entry, "id")) is int
    assert coco.image_size(entry) == (50, 60) and coco.flag(entry, "iscrowd") and coco.ids(entry, "ids") == (2, 3)
    assert coco.categories({"categories": [entry]})[0].id == 7
    assert rle.area(segmentations.to_rle({"size": [60.0, 50.0], "counts": [5.0, 7.0, 2988.0]}, 60, 50)) == 7
    assert coco.whole_number({"id": 2**63 - 1}, "id") == 2**63 - 1
    assert coco.whole_number({"id": 2.0**53 - 1}, "id") == 2**53 - 1


ANY = {"size": "[640, 480]", "deep": json.loads("[" * 500 + "]" * 500), "long": "x" * 999, "text": "a\ud800b\x1b[31m\n"}
BAD_FIELDS: list[tuple[Callable[[dict[str, Any]], Any], Any, str]] = [
    (lambda e: coco.whole_number(e, "x"), True, "'x' is true, not a whole number from 0 to 2^63 - 1"),
    (lambda e: coco.whole_number(e, "x"), None, "'x' is null, not a whole number"),
    (lambda e: coco.whole_number(e, "x"), "7", "'x' is \"7\", not a whole number"),
    (lambda e: coco.whole_number(e, "x"), [7], "'x' is [7], not a whole number"),
    (lambda e: coco.whole_number(e, "x"), 1.5, "'x' is 1.5, not a whole number"),
    (lambda e: coco.whole_number(e, "x"), -1, "'x' is -1, not a whole number from 0"),
    (lambda e: coco.whole_number(e, "x"), 2**63, "'x' is 9223372036854775808, not a whole number from 0 to 2^63 - 1"),
    (lambda e: coco.whole_number(e, "x"), HUGE, "0..., not a whole number"),
    (lambda e: coco.whole_number(e, "x"), 2.0**53, "'x' is 9007199254740992.0, a float of 2^53 or more, which"),
    (lambda e: coco.whole_number(e, "x"), float("nan"), "'x' is NaN, not a whole number"),
    (lambda e: coco.whole_number(e, "x"), float("inf"), "'x' is Infinity, not a whole number"),
    (lambda e: coco.number(e, "x"), None, "'x' is null, not a number"),
    (lambda e: coco.number(e, "x"), "3", "'x' is \"3\", not a number"),
    (lambda e: coco.number(e, "x"), False, "'x' is false, not a number"),
    (lambda e: coco.number(e, "x"), float("nan"), "'x' is NaN, not a finite number"),
    (lambda e: coco.number(e, "x"), 1e308, "'x' is 1e+308, too large a number"),
    (lambda e: coco.number(e, "x"), HUGE, "0..., too large a number"),
    (lambda e: coco.box(e, "x"), [1, 2, 3], "'x' is [1, 2, 3], not a list of four numbers"),
    (lambda e: coco.box(e, "x"), None, "'x' is null, not a list of four numbers"),
    (lambda e: coco.box(e, "x"), {"x": 1}, "'x' is {\"x\": 1}, not a list of four numbers"),
    (lambda e: coco.box(e, "x"), [1, 2, None, 4], "'x' is [1, 2, null, 4], which holds null, not a number"),
    (lambda e: coco.box(e, "x"), [1, 2, 3, 1e308], "which holds 1e+308, too large a number"),
    (lambda e: coco.box(e, "x"), [1, 2, -3, 4], "'x' is [1, 2, -3, 4], whose width or height is below 0"),
    (lambda e: coco.text(e, "x"), 3, "'x' is 3, not text"),
    (lambda e: coco.flag(e, "x"), "0", "'x' is \"0\", neither 0 nor 1"),
    (lambda e: coco.flag(e, "x"), 2, "'x' is 2, neither 0 nor 1"),
    (lambda e: coco.ids(e, "x"), None, "'x' is null, not a list of ids"),
    (lambda e: coco.ids(e, "x"), ["3"], "'x' is \"3\", not a whole number"),
    (lambda e: coco.fields(e["x"]), [7], "it is [7], not an object of fields"),
    (lambda e: coco.image_name({"file_name": e["x"]}), 5, "'file_name' is 5, not text"),
    (lambda e: coco.inner_name({"file_name": e["x"]}), "../a\ud800.jpg", "\"../a\\ud800.jpg\", which leaves"),
    (lambda e: coco.inner_name({"coco_url": None, "id": e["x"]}), 5, "neither a 'file_name' nor a 'coco_url'"),
    (lambda e: coco.image_size({"width": e["x"], "height": 5}), 0, "'width' is 0, not a whole number from 1"),
    (lambda e: coco.image_size({"width": e["x"], "height": 10**6}), 10**6, "it is said to be 1000000 x 1000000"),
    (lambda e: coco.needed(e, "y"), 0, "it has no 'y'"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "value", "message"), BAD_FIELDS)
def test_a_wrong_value_is_named_with_its_field(read: Callable[[dict[str, Any]], Any], value: Any, message: str) -> None:
    with pytest.raises(DataError) as caught, coco.named("annotation 3"):
        read({"x": value})
    assert message in str(caught.value) and str(caught.value).startswith("annotation 3: ")


def test_no_value_spoils_the_line_that_shows_it() -> None:
    for value in ANY.values():
        with pytest.raises(DataError) as caught:
            coco.whole_number({"id": value}, "id")
        line = str(caught.value)
        assert line.isprintable() and line.isascii() and len(line) < 200
