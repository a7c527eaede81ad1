"""Box formats: every conversion round-trips, and what is no box is refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipelines.boxes import BOX_FORMATS, clip, has_area, to_xyxy, xyxy_to_xywh
from pipelines.errors import DataError, UnknownNameError

WIDTH, HEIGHT = 640, 480


@st.composite
def boxes(draw: st.DrawFn, low: float = -100.0, high: float = 1000.0) -> np.ndarray:
    """N x 4 xyxy float32 with sides of at least one pixel."""
    count = draw(st.integers(0, 8))
    numbers = st.floats(low, high, width=32)
    corner = draw(npst.arrays(np.float32, (count, 2), elements=numbers))
    sides = draw(npst.arrays(np.float32, (count, 2), elements=st.floats(1, 500, width=32)))
    return np.concatenate([corner, corner + sides], axis=1)


def from_xyxy(xyxy: np.ndarray, box_format: str) -> np.ndarray:
    """The same boxes in `box_format`, in float64: the definition of each format, written down."""
    x1, y1, x2, y2 = xyxy.astype(np.float64).T
    layout, _, normalised = box_format.partition("-")
    columns = {
        "xyxy": (x1, y1, x2, y2),
        "xywh": (x1, y1, x2 - x1, y2 - y1),
        "cxcywh": ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1),
    }[layout]
    array = np.stack(columns, axis=1)
    return array / [WIDTH, HEIGHT, WIDTH, HEIGHT] if normalised else array


@pytest.mark.parametrize("box_format", BOX_FORMATS)
@given(xyxy=boxes(low=0, high=400))
def test_every_format_comes_back_to_xyxy(box_format: str, xyxy: np.ndarray) -> None:
    back = to_xyxy(from_xyxy(xyxy, box_format), box_format, width=WIDTH, height=HEIGHT)
    assert back.dtype == np.float32
    assert back.shape == xyxy.shape
    np.testing.assert_allclose(back, xyxy, atol=1e-3)


@given(xyxy=boxes())
def test_xywh_there_and_back(xyxy: np.ndarray) -> None:
    np.testing.assert_allclose(
        to_xyxy(xyxy_to_xywh(xyxy), "xywh", width=WIDTH, height=HEIGHT), xyxy, rtol=1e-5, atol=1e-3
    )


@given(xyxy=boxes())
def test_clipping_keeps_what_lies_inside(xyxy: np.ndarray) -> None:
    clipped = clip(xyxy, width=WIDTH, height=HEIGHT)
    assert (clipped >= 0).all() and (clipped <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    np.testing.assert_array_equal(clip(clipped, width=WIDTH, height=HEIGHT), clipped)
    inside = (xyxy >= 0).all(axis=1) & (xyxy <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all(axis=1)
    np.testing.assert_array_equal(clipped[inside], xyxy[inside])
    x1, y1, x2, y2 = xyxy.T
    meets_image = (x1 < WIDTH) & (x2 > 0) & (y1 < HEIGHT) & (y2 > 0)
    np.testing.assert_array_equal(has_area(clipped), meets_image)


def test_no_boxes_are_boxes() -> None:
    assert to_xyxy([], "xywh", width=WIDTH, height=HEIGHT).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "box_format", "why"),
    [
        ([0, 0, np.nan, 4], "xyxy", "not a finite number"),
        ([0, 0, 1e300, 4], "xyxy", "not a finite number"),
        ([3e38, 0, 3e38, 4], "xywh", "not a finite number"),
        ([10, 10, 5, 20], "xyxy", "no area when read as xyxy"),
        ([10, 10, 0, 20], "xywh", "no area when read as xywh"),
        ([10, 10, -1, 20], "cxcywh", "no area when read as cxcywh"),
        ([10, 10, 50, 20], "xywh-normalised", "are these pixels"),
    ],
)
def test_what_is_no_box_is_refused_by_its_place(box: list[float], box_format: str, why: str) -> None:
    good = [0.1, 0.1, 0.5, 0.5]
    with pytest.raises(DataError, match=rf"^box 1 .*{why}"):
        to_xyxy([good, box], box_format, width=WIDTH, height=HEIGHT)
    with pytest.raises(DataError, match=r"^line 3 "):
        to_xyxy([good, box], box_format, width=WIDTH, height=HEIGHT, name_box=lambda index: f"line {index + 2}")


def test_boxes_without_area_pass_only_where_allowed() -> None:
    empty = to_xyxy([[3, 4, 0, 0]], "xywh", width=WIDTH, height=HEIGHT, allow_empty=True)
    assert not has_area(empty).any()
    with pytest.raises(DataError, match="no area"):
        to_xyxy([[3, 4, -1, 2]], "xywh", width=WIDTH, height=HEIGHT, allow_empty=True)


@pytest.mark.parametrize("name", ["xyxyxy", "xywh-", "xywh-normalized"])
def test_unknown_format_lists_the_known(name: str) -> None:
    with pytest.raises(UnknownNameError, match="cxcywh-normalised"):
        to_xyxy([[0, 0, 1, 1]], name, width=WIDTH, height=HEIGHT)
