"""The overlay: tints, labels that leave the picture to be seen, and files that hold the drawing."""

import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as PilImage
from support.output_cases import CATEGORIES, FOUND, NOTHING, build, files, make_instances, photo, read

from pipelines.errors import ImageError
from pipelines.outputs import Destination
from pipelines.outputs.labels import draw_labels, overlap
from pipelines.outputs.overlay import PALETTE, _colours, draw
from pipelines.types import Category, Detections, Image, Instances


@pytest.fixture
def destination(tmp_path: Path) -> Destination:
    (tmp_path / "scratch").mkdir()
    return Destination(tmp_path / "out", tmp_path / "scratch", CATEGORIES)


def test_overlay_tints_masks_and_leaves_holes_and_surroundings() -> None:
    y, x = np.mgrid[:400, :500]
    distance = np.hypot(y - 200, x - 250)
    ring = (distance < 150) & (distance > 60)
    image = photo("x.jpg", 400, 500)
    picture = draw(image, make_instances([ring]), CATEGORIES)
    inside = (distance < 140) & (distance > 70)
    expected = 0.6 * image.pixels[inside] + 0.4 * np.array(PALETTE[0])
    assert np.abs(picture[inside] - expected).max() <= 1
    untouched = (distance < 55) | (y < 20) | (x < 90) | (x > 410) | (y > 360)
    assert np.array_equal(picture[untouched], image.pixels[untouched])
    assert not np.array_equal(picture[30:50, 100:150], image.pixels[30:50, 100:150])  # the label on top of the box


def test_overlay_shows_the_smaller_mask_in_its_own_tint() -> None:
    big, small = np.zeros((2, 400, 500), np.bool_)
    big[20:380, 20:480] = True
    small[150:250, 200:300] = True
    image = photo("x.jpg", 400, 500)
    for masks, colour in (([big, small], PALETTE[1]), ([small, big], PALETTE[0])):
        picture = draw(image, make_instances(masks), CATEGORIES)
        middle = np.s_[190:230, 220:280]
        assert np.abs(picture[middle] - (0.6 * image.pixels[middle] + 0.4 * np.array(colour))).max() <= 1


def test_instances_that_meet_differ_in_colour() -> None:
    masks = np.zeros((len(PALETTE) + 1, 400, 500), np.bool_)
    masks[0, 20:380, 20:480] = True
    for i in range(1, len(PALETTE)):
        masks[i, 390:399, 50 * i : 50 * i + 9] = True
    masks[-1, 150:250, 200:300] = True  # on the first, whose colour it would have if the palette merely repeated
    picture = draw(Image("x", np.full((400, 500, 3), 128, np.uint8)), make_instances(list(masks)), CATEGORIES)
    assert not np.array_equal(picture[200, 250], picture[100, 100])


def plain_colours(boxes: np.ndarray) -> list[tuple[int, int, int]]:
    """For each box the colour least used by the earlier boxes that it meets, in turn among equals."""
    meets = overlap(boxes, boxes) > 0
    chosen: list[int] = []
    for i in range(len(boxes)):
        used = Counter(chosen[j] for j in np.flatnonzero(meets[i, :i]))
        chosen.append(min(((i + step) % len(PALETTE) for step in range(len(PALETTE))), key=used.__getitem__))
    return [PALETTE[colour] for colour in chosen]


@settings(max_examples=30)
@given(corners=arrays.arrays(np.int64, (50, 2), elements=st.integers(0, 100)), size=st.integers(0, 60))
def test_colours_are_the_least_used_around(corners: np.ndarray, size: int) -> None:
    boxes = np.concatenate([corners, corners + size], axis=1)
    assert _colours(boxes) == plain_colours(boxes)


def test_colours_of_thousands_take_little_memory() -> None:
    corners = np.random.default_rng(0).integers(0, 1000, (3000, 2))
    tracemalloc.start()
    _colours(np.concatenate([corners, corners + 20], axis=1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


def labels(boxes: Sequence[Sequence[int]], text: str, side: int) -> np.ndarray:
    """Which pixels of a side x side picture the labels of the boxes cover."""
    canvas = np.zeros((side, side, 3), np.uint8)
    n = len(boxes)
    draw_labels(canvas, np.array(boxes, np.int64), [text] * n, [(9, 9, 9)] * n, range(n), side / 640)
    return canvas


@pytest.mark.parametrize(("x", "y"), [(0, 0), (0, 600), (600, 0), (600, 600)])
def test_labels_stay_whole_at_the_edge(x: int, y: int) -> None:
    def block(canvas: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(canvas.any(axis=(1, 2)))[0], np.nonzero(canvas.any(axis=(0, 2)))[0]
        return canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    middle = block(labels([(300, 300, 340, 340)], "traffic light 0.93", 640))
    assert middle.all() and (middle == 255).any()
    assert np.array_equal(block(labels([(x, y, x + 40, y + 40)], "traffic light 0.93", 640)), middle)


@settings(max_examples=40)
@given(corners=arrays.arrays(np.int64, (60, 2), elements=st.integers(0, 300)), size=st.integers(1, 20))
def test_labels_leave_the_picture_and_every_lone_object_to_be_seen(corners: np.ndarray, size: int) -> None:
    boxes = np.concatenate([corners, corners + size], axis=1).tolist()
    covered = labels(boxes, "person 0.93", 320).any(axis=2)
    assert covered.mean() <= 0.15
    x1, y1, x2, y2 = boxes[0]
    alone = labels(boxes[:1], "person 0.93", 320).any(axis=2)
    assert alone.any()
    assert alone[y1:y2, x1:x2].mean() <= 0.5


def test_labels_that_would_bury_the_picture_are_all_left_out() -> None:
    grid = [(x, y, x + 60, y + 60) for x in range(0, 640, 64) for y in range(0, 640, 64)]
    assert labels(grid[:12], "person 0.93", 640).any()
    assert not labels(grid, "person 0.93", 640).any()


def test_where_there_is_one_class_boxes_have_no_labels() -> None:
    image, found = photo("x.jpg", 400, 500), make_instances([np.ones((400, 500), np.bool_)])
    one = {1: CATEGORIES[1]}
    assert not np.array_equal(draw(image, found, CATEGORIES), draw(image, found, one))


@settings(max_examples=60)
@given(
    name=st.text(max_size=60),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    box=st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4),
)
def test_anything_can_be_drawn(name: str, size: tuple[int, int], box: list[float]) -> None:
    mask = np.ones(size, np.bool_)
    mask[::2] = False
    instances = make_instances([mask])
    detections = Detections(np.array([box], np.float32), instances.detections.scores, np.ones(1, np.int64))
    picture = draw(
        photo("x", *size), Instances(detections, instances.masks), {1: Category(1, name), 2: Category(2, name)}
    )
    assert picture.shape == (*size, 3)


def test_overlay_is_a_jpeg_close_to_the_drawing(destination: Destination) -> None:
    pixels = cv2.GaussianBlur(photo("x").pixels, (0, 0), 9)
    image = Image("ü/x.jpg", pixels)
    build("overlay", destination).write(image, FOUND)
    written = read(destination.path("overlays", "ü/x.jpg.jpg"))
    assert np.abs(written.astype(float) - draw(image, FOUND, CATEGORIES)).mean() < 6


@pytest.mark.parametrize(
    ("name", "path", "longest"), [("overlay", "overlays/x.jpg", 65_500), ("ids", "ids/x.png", 10**6)]
)
def test_a_picture_too_long_for_its_format_is_refused(
    name: str, path: str, longest: int, destination: Destination
) -> None:
    output = build(name, destination)
    with pytest.raises(ImageError, match=f"{longest + 1} x 1 pixels do not fit"):
        output.write(photo("x", 1, longest + 1), NOTHING)
    assert not files(destination)
    output.write(photo("x", 1, longest), NOTHING)
    with PilImage.open(destination.path(path)) as picture:
        assert picture.size == (longest, 1)


def test_colours_of_many_boxes_depend_on_the_thousand_before_each() -> None:
    corners = np.random.default_rng(0).integers(0, 900, (1300, 2))
    boxes = np.concatenate([corners, corners + 90], 1)
    meets = overlap(boxes, boxes) > 0
    chosen: list[int] = []
    for i in range(1000):
        used = Counter(chosen[j] for j in range(i) if meets[i, j])
        chosen.append(min(range(len(PALETTE)), key=lambda colour: (used[colour], (colour - i) % len(PALETTE))))
    colours = _colours(boxes)
    assert colours[:1000] == [PALETTE[colour] for colour in chosen]
    crowd, nothing = np.tile([0, 0, 9, 9], (299, 1)), np.zeros((1000, 4), np.int64)
    assert _colours(np.concatenate([crowd, nothing, crowd[:1]]))[-1] == PALETTE[1299 % len(PALETTE)]
