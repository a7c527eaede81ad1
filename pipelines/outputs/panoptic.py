"""One id per pixel, in COCO's panoptic format: `panoptic/<stem>.png` and `panoptic.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from pipelines import rle
from pipelines.files import reading, replacing
from pipelines.outputs import PANOPTIC_MIN_AREA, Output
from pipelines.outputs.coco import compact_json, image_entry, write_list
from pipelines.outputs.flatten import Flat, flatten
from pipelines.outputs.picture import write_picture
from pipelines.records import Record
from pipelines.types import Image, Instances


@dataclass(frozen=True)
class Panoptic(Output):
    """PNG: a pixel's id is R + 256 G + 65536 B, 0 for none, i + 1 for instance i; beside it, its entry of the JSON.

    by: which mask shows where several lie: the smaller ("area") or the one of higher predicted IoU ("score").
    min_area: islands and holes of fewer pixels go; each entry says how many pixels that were.
    """

    of_image = ("panoptic/{}.png", "panoptic/{}.json")
    by: Literal["area", "score"] = "area"
    min_area: int = PANOPTIC_MIN_AREA

    def write(self, image: Image, instances: Instances) -> None:
        masks = instances.masks
        assert masks is not None, "the row says that it needs them"
        order = (
            rle.large_first(masks.rles)
            if self.by == "area"
            else np.argsort(masks.predicted_iou, kind="stable").tolist()
        )
        flat = flatten(masks.rles, order, image.height, image.width, self.min_area)
        colours = np.stack([flat.labels >> 16, flat.labels >> 8, flat.labels], axis=2).astype(np.uint8)  # OpenCV's BGR
        write_picture(
            self.destination, self.destination.path("panoptic", f"{self.destination.stem(image.name)}.png"), colours
        )
        entry = {
            "segments_info": list(_segments(flat, instances, self.min_area)),
            "holes_filled": flat.filled,
            "islands_removed": flat.removed,
        }
        with replacing(self._entry_path(image.name), self.destination.scratch) as temporary:
            temporary.write_text(compact_json(entry) + "\n", encoding="ascii")

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        categories = (
            {"id": category.id, "name": category.name, "isthing": 1}
            for category in self.destination.categories.values()
        )
        parts: dict[str, Iterable[dict[str, Any]]] = {
            "images": (image_entry(record) for record in records() if record.status != "failed"),
            "annotations": (self._annotation(record) for record in records() if record.status != "failed"),
            "categories": categories,
        }
        with (
            replacing(self.destination.path("panoptic.json"), self.destination.scratch) as temporary,
            temporary.open("w", encoding="ascii", newline="\n") as file,
        ):
            before = "{"
            for name, entries in parts.items():
                file.write(f'{before}"{name}":')
                write_list(file, entries)
                before = ",\n"
            file.write("}\n")

    def _annotation(self, record: Record) -> dict[str, Any]:
        path = self._entry_path(record.name)
        with reading(path, "an image's entry of panoptic.json"):
            entry = json.loads(path.read_text("ascii"))
            return {"image_id": record.image_id, "file_name": f"{self.destination.stem(record.name)}.png", **entry}

    def _entry_path(self, name: str) -> Path:
        return self.destination.path("panoptic", f"{self.destination.stem(name)}.json")


def _segments(flat: Flat, instances: Instances, margin: int) -> Iterator[dict[str, Any]]:
    """COCO's description of each id that shows. margin: how far, in pixels, an id can reach out of its mask's box."""
    for i, mask in enumerate(instances.rles):
        x, y, w, h = rle.bbox(mask)
        top, left = max(y - margin, 0), max(x - margin, 0)
        shows = flat.labels[top : y + h + margin, left : x + w + margin] == i + 1
        if shows.any():
            x, y, w, h = cv2.boundingRect(shows.astype(np.uint8))
            yield {
                "id": i + 1,
                "category_id": int(instances.detections.category_ids[i]),
                "area": int(shows.sum()),
                "bbox": [left + x, top + y, w, h],
                "iscrowd": 0,
                "score": round(float(instances.detections.scores[i]), 6),
            }
