"""Objects as rows of a table, in a CSV file; `--boxes` reads it, too."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.outputs import Output
from pipelines.records import Record
from pipelines.types import Category

COLUMNS: Mapping[str, type] = {
    "image": str,
    "image_id": int,
    "width": int,
    "height": int,
    "category": str,
    "category_id": int,
    "x": float,
    "y": float,
    "w": float,
    "h": float,
    "score": float,
    "predicted_iou": float,
    "stability_score": float,
    "area": int,
    "rle": str,
}
"""x, y, w, h: the detector's box, in pixels. area: pixels of the mask. rle: its compressed runs, COCO's `counts`,
whose `size` is [height, width]. What a row does not have is None."""


def rows(records: Iterable[Record], categories: Mapping[int, Category]) -> Iterator[dict[str, Any]]:
    """A row of COLUMNS for each object."""
    for record in records:
        for instance in record.instances:
            yield {
                "image": record.name,
                "image_id": record.image_id,
                "width": record.width,
                "height": record.height,
                "category": categories[instance["category_id"]].name,
                "category_id": instance["category_id"],
                **dict(zip("xywh", map(float, instance["bbox"]), strict=True)),
                "score": instance["score"],
                "predicted_iou": instance.get("predicted_iou"),
                "stability_score": instance.get("stability_score"),
                "area": instance.get("area"),
                "rle": instance["segmentation"]["counts"] if "segmentation" in instance else None,
            }


@dataclass(frozen=True)
class Csv(Output):
    """`instances.csv`: RFC 4180, UTF-8; what is not there is empty."""

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        with self.destination.opened("instances.csv") as file:
            writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows(records(), self.destination.categories))
