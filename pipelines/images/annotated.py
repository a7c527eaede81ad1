"""A photo as its annotations count it."""

from __future__ import annotations

from dataclasses import replace

from pipelines.frames import frame_of_size, unsaid
from pipelines.images.load import load
from pipelines.images.sources import ImageSource
from pipelines.types import Frame, Image


def load_annotated(source: ImageSource, frame: Frame | None, size: tuple[int, int] | None, file: str) -> Image:
    """A photo in the frame of its annotations, as far as can be known: of any other size than they state, if need be.

    frame, size (width, height): as the annotations state them. Where they say nothing and sizes do not tell, as stored.
    file: what states them, for notes. Raises ImageError.
    """
    image = load(source, upright=frame == "upright")
    if frame is not None or image.frame is None:
        return image
    fitting = frame_of_size(image, size)
    if fitting == "upright":
        image = load(source)
        return _noted(image, f"photos were turned upright, since {file} has their upright sizes")
    if fitting is None and size in (None, (image.width, image.height)):
        return _noted(image, unsaid(file, "stored"))
    return image


def _noted(image: Image, note: str) -> Image:
    return replace(image, notes=(*image.notes, note))
