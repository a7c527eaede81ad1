"""Label Studio: tasks to import, whose predictions are brushes, and the labelling interface that they are for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pipelines.outputs import Output
from pipelines.outputs.brush_rle import brush_of_mask
from pipelines.outputs.coco import write_list
from pipelines.outputs.xml import quoted
from pipelines.records import InstanceRecord, Record

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."""
_TAGS = {"brush": "BrushLabels", "box": "RectangleLabels"}


@dataclass(frozen=True)
class LabelStudio(Output):
    """`label_studio/tasks.json`: an image a task, with one prediction, whose score is the mean of its objects'; and
    `label_studio/config.xml`, the labelling interface.

    image_root: what comes before an image's name to make its address.
    """

    image_root: str = LOCAL_FILES

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        with self.destination.opened("label_studio", "tasks.json") as file:
            write_list(file, (self._task(record) for record in records() if record.status != "failed"))
            file.write("\n")
        masks = {"segmentation" in instance for record in records() for instance in record.instances}
        names = [*(["brush"] if masks != {False} else []), *(["box"] if False in masks else [])]
        with self.destination.opened("label_studio", "config.xml") as file:
            file.write('<View>\n  <Image name="image" value="$image" zoom="true"/>\n')
            for name in names:
                file.write(f'  <{_TAGS[name]} name="{name}" toName="image">\n')
                for category in self.destination.categories.values():
                    file.write(f'    <Label value="{quoted(category.name)}"/>\n')
                file.write(f"  </{_TAGS[name]}>\n")
            file.write("</View>\n")

    def _task(self, record: Record) -> dict[str, Any]:
        scores = [instance["score"] for instance in record.instances]
        prediction = {
            "model_version": self.destination.model,
            "score": round(sum(scores) / max(len(scores), 1), 6),
            "result": [self._region(number, each, record) for number, each in enumerate(record.instances)],
        }
        data = {"image": self._address(record.name), "width": record.width, "height": record.height}
        return {"data": data, "predictions": [prediction]}

    def _address(self, name: str) -> str:
        addresses = self.image_root.startswith(("/", "http://", "https://"))
        return self.image_root + (quote(name) if addresses else name)

    def _region(self, number: int, instance: InstanceRecord, record: Record) -> dict[str, Any]:
        labels = [self.destination.categories[instance["category_id"]].name]
        if "segmentation" in instance:
            name, value = "brush", dict[str, Any](format="rle", rle=brush_of_mask(instance["segmentation"]))
        else:
            x, y, w, h = instance["bbox"]
            shares = {
                "x": x / record.width,
                "y": y / record.height,
                "width": w / record.width,
                "height": h / record.height,
            }
            name, value = "box", {**{side: 100 * share for side, share in shares.items()}, "rotation": 0}
        kind = _TAGS[name].lower()
        return {
            "id": str(number),
            "from_name": name,
            "to_name": "image",
            "type": kind,
            "original_width": record.width,
            "original_height": record.height,
            "image_rotation": 0,
            "value": {**value, kind: labels},
            "score": instance["score"],
        }
