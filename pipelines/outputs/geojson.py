"""GeoJSON (RFC 7946), one file an image, in pixels: x to the right, y down, from the corner of the first pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.outlines import Ring, outlines, simple
from pipelines.outputs import Output
from pipelines.outputs.coco import compact_json
from pipelines.records import InstanceRecord, instance_records
from pipelines.types import Image, Instances

_SCORES = ("score", "predicted_iou", "stability_score", "area")


@dataclass(frozen=True)
class GeoJson(Output):
    """`geojson/<stem>.geojson`: a feature an object. Its geometry is a MultiPolygon of exactly its mask's pixels, whose
    rings do not touch themselves; or its box, where there is no mask; or null for a mask without pixels.
    """

    of_image = ("geojson/{}.geojson",)

    def write(self, image: Image, instances: Instances) -> None:
        about = {"file_name": image.name, "width": image.width, "height": image.height}
        with self.destination.opened("geojson", f"{self.destination.stem(image.name)}.geojson") as file:
            file.write(f'{{"type":"FeatureCollection","image":{compact_json(about)},"features":[')
            for number, instance in enumerate(instance_records(instances)):
                file.write((",\n" if number else "\n") + compact_json(self._feature(number, instance)))
            file.write("\n]}\n")

    def _feature(self, number: int, instance: InstanceRecord) -> dict[str, Any]:
        category = self.destination.categories[instance["category_id"]]
        properties = {"category": category.name, "category_id": category.id, "bbox": instance["bbox"]}
        scores = {key: value for key, value in instance.items() if key in _SCORES}
        return {
            "type": "Feature",
            "id": number,
            "geometry": _geometry(instance),
            "properties": {**properties, **scores},
        }


def _geometry(instance: InstanceRecord) -> dict[str, Any] | None:
    if "segmentation" not in instance:
        x, y, w, h = instance["bbox"]
        right, foot = round(x + w, 3), round(y + h, 3)
        return {"type": "Polygon", "coordinates": [[[x, y], [right, y], [right, foot], [x, foot], [x, y]]]}
    polygons = []
    for part in outlines(instance["segmentation"]):
        pieces = sorted((piece for ring in part for piece in simple(ring)), key=lambda piece: piece.is_hole)
        polygons.append([_closed(piece) for piece in pieces])
    return {"type": "MultiPolygon", "coordinates": polygons} if polygons else None


def _closed(ring: Ring) -> list[list[int]]:
    corners: list[list[int]] = ring.corners.tolist()
    return [*corners, corners[0]]
