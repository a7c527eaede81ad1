"""Run-length encoding: every function against pycocotools or plain numpy, on arbitrary masks."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from pipelines import rle
from pipelines.errors import DataError
from pipelines.types import Rle

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools's

masks = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))
BLANK, FULL = np.zeros((3, 5), np.bool_), np.ones((3, 5), np.bool_)


def ring(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return (distance < 200) & (distance > 90)


@given(masks)
@example(BLANK)
@example(FULL)
@example(ring(600, 700))
def test_encoding_equals_pycocotools_and_comes_back(mask: np.ndarray) -> None:
    encoded = rle.encode(mask)
    reference = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    assert encoded == {"size": list(mask.shape), "counts": reference["counts"].decode()}
    assert np.array_equal(rle.decode(encoded), mask)
    assert np.array_equal(coco_mask.decode(encoded), mask)
    assert rle.from_runs(rle.runs(encoded), *mask.shape) == encoded
    assert rle.from_runs(rle.runs(encoded).tolist(), *mask.shape) == encoded


@given(masks)
@example(BLANK)
@example(FULL)
@example(ring(600, 700))
def test_region_area_and_box_are_those_of_the_mask(mask: np.ndarray) -> None:
    encoded = rle.encode(mask)
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    y0, y1 = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    x0, x1 = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 0)
    region, left, top = rle.decode_region(encoded)
    assert (left, top) == (x0, y0)
    assert region.dtype == np.bool_
    assert np.array_equal(region, mask[y0:y1, x0:x1])
    assert rle.area(encoded) == mask.sum()
    assert rle.bbox(encoded) == [x0, y0, x1 - x0, y1 - y0]


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=30))
@example([2**32 - 2, 1, 0])
def test_runs_of_any_length_survive_compression(counts: list[int]) -> None:
    size = (sum(counts), 1)
    assert rle.runs(rle.from_runs(counts, *size)).tolist() == counts


def test_runs_without_length_are_accepted() -> None:
    encoded = rle.from_runs([2, 0, 3, 4, 0, 1, 5, 0], 3, 5)
    mask = coco_mask.decode(encoded)
    assert np.array_equal(rle.decode(encoded), mask)
    region, x0, y0 = rle.decode_region(encoded)
    assert np.array_equal(region, mask[y0 : y0 + region.shape[0], x0 : x0 + region.shape[1]])
    assert region.sum() == mask.sum() == 5


@pytest.mark.parametrize(
    "counts", ["", "1", "?1", "o", "99", "~", "\x00", "é", "oooooooooooo0", "00000000000000001", "O2?0", "\ud800"]
)
def test_damaged_masks_are_refused(counts: str) -> None:
    for read in (rle.runs, rle.decode, rle.decode_region):
        with pytest.raises(DataError, match="5 x 3 pixels"):
            read({"size": [3, 5], "counts": counts})


@given(st.text(st.characters(min_codepoint=30, max_codepoint=127), max_size=40))
def test_any_text_is_read_or_refused(counts: str) -> None:
    try:
        mask = rle.decode({"size": [3, 5], "counts": counts})
    except DataError:
        return
    assert mask.shape == (3, 5)
    assert np.array_equal(mask, coco_mask.decode({"size": [3, 5], "counts": counts}))


def refuses(function: Callable[[Rle], object], counts: str) -> bool:
    try:
        function({"size": [9, 7], "counts": counts})
    except DataError:
        return True
    return False


@given(st.text("0123456789:;<=>?@ABNOPQabno~\ud800é", max_size=12) | masks.map(lambda mask: rle.encode(mask)["counts"]))
@example("")
@example("o" * 20 + "0")
@example(rle.from_runs([9 * 7], 9, 7)["counts"])
@example(rle.from_runs([20, 0, 43], 9, 7)["counts"])  # sound, though no encoder writes it so
@example(rle.from_runs([20, 3, 40, 0], 9, 7)["counts"])
@example(rle.from_runs([20, 3], 9, 7)["counts"])
def test_a_check_refuses_what_cannot_be_read(counts: str) -> None:
    assert refuses(rle.check, counts) == refuses(rle.runs, counts)
