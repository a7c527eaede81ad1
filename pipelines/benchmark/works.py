"""The works that are timed, and the picture and boxes they are done on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import numpy as np
import torch

from pipelines.detectors.given import Given
from pipelines.errors import DataError, ImageError
from pipelines.everything.config import GridConfig
from pipelines.everything.grid import ask_grid
from pipelines.everything.search import search_job
from pipelines.images import MAX_PIXELS, sample_photos
from pipelines.images.load import load
from pipelines.images.sources import ImageSource
from pipelines.run import RunConfig
from pipelines.run.loop import results_of, run
from pipelines.run.stages import StageClock
from pipelines.sam.predictor import SamPredictor
from pipelines.segment import SegmentJob
from pipelines.types import Float32, Image, Instances, Masks


@dataclass(frozen=True)
class Scene:
    """path, image: a photograph. boxes: N x 4 xyxy pixels in it."""

    path: Path
    image: Image
    boxes: Float32


def open_scene(path: Path | None, count: int) -> Scene:
    """A photograph (None: the street scene that ultralytics ships, 810 x 1080) and `count` boxes, always the same.

    Their centres are anywhere, their sides from 3 % to 30 % of the longer side. Raises DataError for a file that is no
    image.
    """
    path = path or sample_photos()[0]
    try:
        image = load(ImageSource(path.name, str(path)), max_pixels=MAX_PIXELS)
    except ImageError as error:
        raise DataError(f"{path} cannot be measured on: {error}") from error
    size = np.array([image.width, image.height])
    draw = np.random.default_rng(0)
    centres, sides = draw.uniform(0, 1, (count, 2)) * size, draw.uniform(0.03, 0.3, (count, 2)) * size.max()
    corners = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    return Scene(path, image, corners.clip(0, np.tile(size, 2)).astype(np.float32))


def encode(sam: SamPredictor, batch: int) -> Callable[[], None]:
    """The encoder alone, on noise in the network's input form that is already on the device."""
    side = sam.network.input_size
    pixels = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(sam.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def work() -> None:
        sam.network.encode(pixels)

    return work


def segment_boxes(sam: SamPredictor, scene: Scene, count: int) -> Callable[[], Masks]:
    """The first `count` boxes to run-length-encoded masks. The predictor must hold the image."""
    return partial(sam.segment_boxes, scene.boxes[:count])


def segment_everything(sam: SamPredictor, scene: Scene, points_per_side: int) -> Callable[[], int]:
    """`evsam everything` with its defaults on the image, encoding included. Gives the number of masks."""
    job = search_job(sam, GridConfig(points_per_side=points_per_side), ask_grid)

    def work() -> int:
        (found,) = results_of(job, [scene.image], StageClock())
        if not isinstance(found, Instances):
            raise found
        return len(found)

    return work


def segment_folder(sam: SamPredictor, scene: Scene, images: int) -> Callable[[], None]:
    """`evsam segment` with given boxes: a folder with `images` copies of the photograph to COCO results."""

    def work() -> None:
        with TemporaryDirectory(prefix="evsam-benchmark-") as folder:
            photos = Path(folder, "photos")
            photos.mkdir()
            for number in range(images):
                copyfile(scene.path, photos / f"{number}{scene.path.suffix}")
            config = RunConfig((str(photos),), Path(folder, "out"), save=("coco",))
            boxes = Given([(x1, y1, x2, y2) for x1, y1, x2, y2 in scene.boxes.tolist()])
            failed = run(config, {}, lambda ids: SegmentJob(sam, boxes), device=str(sam.device)).failed
        for reason in failed.values():
            raise ImageError(reason)

    return work
