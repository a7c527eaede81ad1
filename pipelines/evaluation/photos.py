"""The images of a truth, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import ImageError
from pipelines.evaluation.annotations import GroundTruth, TruthImage
from pipelines.images.annotated import load_annotated
from pipelines.images.search import find_files
from pipelines.images.sources import ImageSource
from pipelines.types import Image


@dataclass(frozen=True)
class Photos:
    """truth: what the file is called that lists the images; sources: their files, by the names that it has for them;
    missing: names of which there is no file; notes: of names that had to be matched.
    """

    truth: str
    sources: Mapping[str, ImageSource]
    missing: Sequence[str]
    notes: Sequence[str]

    def load(self, entry: TruthImage) -> Image:
        """The image in the frame of its annotations, see `pipelines.frames`.

        Raises ImageError, also for another size.
        """
        if entry.name not in self.sources:
            raise ImageError("there is no file of that name")
        image = load_annotated(self.sources[entry.name], entry.frame, (entry.width, entry.height), self.truth)
        if (image.width, image.height) != (entry.width, entry.height):
            sizes = f"{image.width} x {image.height}, but the annotations say {entry.width} x {entry.height}"
            raise ImageError(f"the image is {sizes}")
        return image


def find_photos(truth: GroundTruth, folder: Path) -> Photos:
    """Find the images of the truth below `folder`, see `pipelines.images.search.find_files`."""
    names = [image.name for image in truth.images.values()]
    matching = find_files(folder, names)
    sources = {name: ImageSource(name, str(folder / file)) for name, file in matching.found.items()}
    return Photos(
        truth.path.name, sources, [name for name in names if name not in sources], matching.notes(str(folder))
    )
