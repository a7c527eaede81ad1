"""Edge maps: `edges/<stem>.png`."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.outputs import Output
from pipelines.outputs.picture import write_picture
from pipelines.types import Image, Instances


@dataclass(frozen=True)
class Edges(Output):
    """8 bits, the size of the image: the probability of an edge in each pixel, 255 for 1."""

    of_image = ("edges/{}.png",)

    def write(self, image: Image, instances: Instances) -> None:
        assert instances.edges is not None, "the row says that it needs them"
        write_picture(
            self.destination,
            self.destination.path("edges", f"{self.destination.stem(image.name)}.png"),
            instances.edges,
        )
