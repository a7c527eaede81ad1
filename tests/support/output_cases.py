"""Instances of every shape, and what an output has written of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from pipelines import rle
from pipelines.names import file_stems
from pipelines.outputs import OUTPUTS, Destination, Output
from pipelines.records import Record, instance_records
from pipelines.types import Bool, Category, Detections, Image, Instances, Masks

HEIGHT, WIDTH = 90, 120
CATEGORIES = {1: Category(1, "person"), 7: Category(7, "Straßenbahn/路面電車"), 90: Category(90, "..\\x: *?")}


def make_instances(masks: Sequence[Bool], category_ids: Sequence[int] | None = None) -> Instances:
    """Instances whose boxes are those of their masks, a pixel wider."""
    n = len(masks)
    rles = tuple(rle.encode(mask) for mask in masks)
    xywh = np.array([rle.bbox(code) for code in rles], np.float32).reshape(n, 4)
    boxes = np.concatenate([xywh[:, :2] - 1, xywh[:, :2] + xywh[:, 2:] + 1], axis=1)
    scores = np.linspace(0.9, 0.3, n, dtype=np.float32)
    ids = np.array([1] * n if category_ids is None else category_ids, np.int64)
    edges = np.full((HEIGHT, WIDTH), min(n, 255), np.uint8)
    return Instances(Detections(boxes, scores, ids), Masks(rles, scores * 0.9, scores * 0.8), edges=edges)


def photo(name: str, height: int = HEIGHT, width: int = WIDTH) -> Image:
    pixels = np.random.default_rng(len(name)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels.setflags(write=False)  # as the loader gives them
    return Image(name, pixels)


def shapes() -> list[Bool]:
    """A ring with a hole, two separate parts, a block that overlaps the ring, a single pixel."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(y - 40, x - 45)
    parts = ((y > 60) & (x < 20)) | ((y < 15) & (x > 100))
    return [(distance < 30) & (distance > 12), parts, (y > 30) & (y < 50) & (x > 60) & (x < 90), (y == 89) & (x == 119)]


FOUND = make_instances(shapes(), [1, 7, 90, 1])
NOTHING = make_instances([])


def make_record(image: Image, instances: Instances, image_id: int) -> Record:
    rows = instance_records(instances)
    return Record(image.name, image_id, image.width, image.height, "done" if rows else "empty", None, rows)


def build(name: str, destination: Destination, **options: Any) -> Output:
    output: Output = OUTPUTS[name].load()(destination, **options)
    return output


def hard_masks() -> list[Bool]:
    """A ring, two parts, one pixel, all of the image, a spiral that touches itself, pepper holes, nothing."""
    spiral = np.zeros((HEIGHT, WIDTH), np.bool_)
    spiral[10:60, 10], spiral[59, 10:60], spiral[20:60, 59], spiral[20, 30:60], spiral[9, 11:30] = (True,) * 5
    spiral[19, 29] = spiral[10, 9] = True
    pepper = np.ones((HEIGHT, WIDTH), np.bool_)
    pepper[np.random.default_rng(0).random(pepper.shape) < 0.1] = False
    return [*shapes(), np.ones((HEIGHT, WIDTH), np.bool_), spiral, pepper, np.zeros((HEIGHT, WIDTH), np.bool_)]


def put_photos(folder: Path, images: Sequence[Image]) -> Destination:
    """The images as files, and where outputs of theirs go."""
    for image in images:
        path = folder / "photos" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        PilImage.fromarray(image.pixels).save(path)
    (folder / "scratch").mkdir()
    locations = {image.name: str(folder / "photos" / image.name) for image in images}
    stems = file_stems(list(locations), {})
    return Destination(folder / "out", folder / "scratch", CATEGORIES, stems, locations, "evsam some-sam")


def put_down(output: Output, found: Mapping[str, Instances], more: Sequence[Record] = ()) -> list[str]:
    """Write what was found on images, by name, and the run's files; more: what failed. Returns the notes."""
    images = {name: photo(name) for name in found}
    records = [make_record(images[name], instances, 1 + i) for i, (name, instances) in enumerate(found.items())]
    for name, instances in found.items():
        output.write(images[name], instances)
    output.finish(lambda: [*records, *more])
    return list(output.notes(lambda: [*records, *more]))


def files(destination: Destination) -> dict[str, bytes]:
    found = (path for path in destination.folder.rglob("*") if path.is_file())
    return {path.relative_to(destination.folder).as_posix(): path.read_bytes() for path in found}


def read(path: Path) -> np.ndarray:
    return np.asarray(PilImage.open(path))
