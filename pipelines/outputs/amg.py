"""The files of segment-anything's scripts/amg.py, and of its SA-1B data set: same names, same fields.

Unlike there, images in different folders, and those that share a stem, have files of their own. Boxes are
xywh in pixels from the first pixel to the last, so one less wide and high than the mask is. Masks that were not asked
for by a click have no point, and those that no SAM made have no scores of one.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from pipelines import rle
from pipelines.files import replacing, to_json
from pipelines.outputs import Destination, Output
from pipelines.outputs.picture import write_picture
from pipelines.records import InstanceRecord, Record, instance_records
from pipelines.types import Image, Instances

_COLUMNS = (
    "id,area,bbox_x0,bbox_y0,bbox_w,bbox_h,point_input_x,point_input_y,predicted_iou,stability_score,"
    "crop_box_x0,crop_box_y0,crop_box_w,crop_box_h"
).split(",")


@dataclass(frozen=True)
class Pictures(Output):
    """`amg/<stem>/<i>.png`, 8 bits, 255 on the mask and 0 off it, and `amg/<stem>/metadata.csv`."""

    of_image = ("amg/{}/[0-9]*.png", "amg/{}/metadata.csv")

    def write(self, image: Image, instances: Instances) -> None:
        self.remove(image.name)
        folder = self.destination.path("amg", self.destination.stem(image.name))
        for i, mask in enumerate(instances.rles):
            write_picture(self.destination, folder / f"{i}.png", rle.decode(mask).astype(np.uint8) * 255)
        with (
            replacing(folder / "metadata.csv", self.destination.scratch) as temporary,
            temporary.open("w", encoding="ascii", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for i, entry in enumerate(_annotations(instance_records(instances), image.width, image.height)):
                point = entry["point_coords"][0] if entry["point_coords"] else ["", ""]
                quality = entry["predicted_iou"], entry["stability_score"]
                writer.writerow([i, entry["area"], *entry["bbox"], *point, *quality, *entry["crop_box"]])


@dataclass(frozen=True)
class Rles(Output):
    """`amg_rle/<stem>.json`: a list of the image's masks, as amg.py writes with --convert-to-rle."""

    of_image = ("amg_rle/{}.json",)

    def write(self, image: Image, instances: Instances) -> None:
        entries = list(_annotations(instance_records(instances), image.width, image.height))
        _write_json(self.destination, ("amg_rle", f"{self.destination.stem(image.name)}.json"), entries)


@dataclass(frozen=True)
class Sa1b(Output):
    """`sa1b/<stem>.json`: an image and its annotations, numbered through the run, as in SA-1B."""

    of_image = ("sa1b/{}.json",)

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        numbers = count(1)
        for record in records():
            if record.status != "failed":
                image = {
                    "image_id": record.image_id,
                    "width": record.width,
                    "height": record.height,
                    "file_name": record.name,
                    **record.said_frame(),
                }
                entries = _annotations(record.instances, record.width, record.height)
                annotations = [{"id": number, **entry} for entry, number in zip(entries, numbers)]  # noqa: B905
                content = {"image": image, "annotations": annotations}
                _write_json(self.destination, ("sa1b", f"{self.destination.stem(record.name)}.json"), content)


def _annotations(rows: Sequence[InstanceRecord], width: int, height: int) -> Iterator[dict[str, Any]]:
    for row in rows:
        x, y, w, h = rle.bbox(row["segmentation"])
        yield {
            "segmentation": row["segmentation"],
            "area": row["area"],
            "bbox": [x, y, max(w - 1, 0), max(h - 1, 0)],
            "predicted_iou": row.get("predicted_iou"),
            "point_coords": [row["point"]] if "point" in row else [],
            "stability_score": row.get("stability_score"),
            "crop_box": [int(side) for side in row.get("crop_box", [0, 0, width, height])],
        }


def _write_json(destination: Destination, parts: tuple[str, ...], content: Any) -> None:
    with replacing(destination.path(*parts), destination.scratch) as temporary:
        temporary.write_text(to_json(content, ascii_only=True) + "\n", encoding="ascii")
