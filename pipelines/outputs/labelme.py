"""LabelMe's JSON, one file a photo (labelmeai/labelme, labelme/_label_file.py): `labelme out/labelme/a.json`."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image as Pil

from pipelines import rle
from pipelines.files import to_json
from pipelines.outlines import joined, outlines
from pipelines.outputs import Output
from pipelines.outputs.objects import covers_nothing, left_out
from pipelines.records import InstanceRecord, Record, instance_records
from pipelines.types import Image, Instances, Rle

_VERSION = "5.5.0"
"""Of LabelMe, whose files look like this."""


@dataclass(frozen=True)
class Labelme(Output):
    """`labelme/<stem>.json`. Each part of an object is a polygon, its holes joined to it by bridges; or with `masks` an
    object is one shape of type "mask". Shapes of one object share a group_id, which counts from 1.

    imagePath leads from the file to the image; where that is not known it is the image's name, as if it lay beside.
    """

    of_image = ("labelme/{}.json",)
    masks: bool = False

    def write(self, image: Image, instances: Instances) -> None:
        stem = self.destination.stem(image.name)
        head: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "imagePath": self._image_path(image.name, self.destination.path("labelme", f"{stem}.json")),
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        with self.destination.opened("labelme", f"{stem}.json") as file:
            file.write(to_json(head)[:-1] + ', "shapes": [')
            before = "\n"
            for number, instance in enumerate(instance_records(instances), 1):
                for shape in self._shapes(instance):
                    label = self.destination.categories[instance["category_id"]].name
                    said = {"label": label, "score": instance["score"], **shape, "group_id": number}
                    file.write(before + to_json({**said, "description": "", "flags": {}}))
                    before = ",\n"
            file.write("\n]}\n")

    def _image_path(self, name: str, file: Path) -> str:
        location = self.destination.locations.get(name)
        if location is None:
            return PurePosixPath(name).name
        try:
            return Path(os.path.relpath(location, file.parent)).as_posix()
        except ValueError:  # on another drive
            return Path(location).absolute().as_posix()

    def _shapes(self, instance: InstanceRecord) -> Iterator[dict[str, Any]]:
        """An object's; none for a mask without pixels."""
        if "segmentation" not in instance:
            x, y, w, h = instance["bbox"]
            yield {"shape_type": "rectangle", "points": [[x, y], [round(x + w, 3), round(y + h, 3)]]}
        elif covers_nothing(instance):
            return
        elif self.masks:
            yield _mask(instance["segmentation"])
        else:
            for part in outlines(instance["segmentation"]):
                yield {"shape_type": "polygon", "points": joined(part).inset.tolist()}

    def notes(self, records: Callable[[], Iterable[Record]]) -> Iterable[str]:
        return left_out("labelme", records)


def _mask(mask: Rle) -> dict[str, Any]:
    """A PNG of the mask's box, whose first and last pixel are its points."""
    region, x, y = rle.decode_region(mask)
    encoded = BytesIO()
    Pil.fromarray(region).save(encoded, "PNG")
    last = [x + region.shape[1] - 1, y + region.shape[0] - 1]
    return {"shape_type": "mask", "points": [[x, y], last], "mask": base64.b64encode(encoded.getvalue()).decode()}
