"""Pascal VOC's XML and PNGs (Everingham et al., VOC development kit, sections 5 and 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from pipelines.errors import UsageError
from pipelines.outputs import Output
from pipelines.outputs.objects import object_box
from pipelines.outputs.picture import write_indexed
from pipelines.outputs.png import VOC_PALETTE, numbered, write_ids
from pipelines.outputs.split import PARTS, empty_parts, part_of
from pipelines.outputs.xml import element
from pipelines.records import InstanceRecord, Record, instance_records
from pipelines.types import Image, Instances

_MOST = 254
"""Numbers of classes, and of objects, in PNGs of 8 bits: 255 stands for pixels that are left open."""
_SETS = ("Main", "Segmentation")


@dataclass(frozen=True)
class Voc(Output):
    """`voc/Annotations/<stem>.xml`, and where there are masks `voc/SegmentationObject/<stem>.png`, in which i is the
    XML's i-th object, from 1, and `voc/SegmentationClass/<stem>.png`, in which i is the i-th class of the run, from 1;
    where masks overlap, the smaller one shows. More than 254 objects take 16 bits.

    Boxes are the masks', or else the detector's; they count from 1 and include both ends. `voc/ImageSets` lists the
    stems, all in trainval.txt or by split, shares of PARTS, and `voc/labelmap.txt` tells the classes' colours.
    """

    of_image = (
        "voc/Annotations/{}.xml",
        "voc/SegmentationClass/{}.png",
        "voc/SegmentationObject/{}.png",
    )
    perhaps = of_image[1:]
    split: Sequence[float] = ()

    def __post_init__(self) -> None:
        """Raises UsageError for more classes than a PNG of 8 bits can tell apart."""
        if (count := len(self.destination.categories)) > _MOST:
            raise UsageError(f"voc can tell {_MOST} classes apart, and there are {count}: save another kind")

    def write(self, image: Image, instances: Instances) -> None:
        stem = self.destination.stem(image.name)
        if instances.masks is not None:
            ids = numbered(image, instances, "voc")
            path = self.destination.path("voc", "SegmentationObject", f"{stem}.png")
            write_ids(self.destination, path, ids, image.frame, most=len(instances), greatest=_MOST)
            numbers = {id: number for number, id in enumerate(self.destination.categories, 1)}
            classes = [numbers[id] for id in instances.detections.category_ids.tolist()]
            path = self.destination.path("voc", "SegmentationClass", f"{stem}.png")
            pixels = np.array([0, *classes], np.uint8)[ids]
            write_indexed(self.destination, path, pixels, VOC_PALETTE, frame=image.frame)
        folder, _, name = image.name.rpartition("/")
        size = {"width": image.width, "height": image.height, "depth": 3}
        with self.destination.opened("voc", "Annotations", f"{stem}.xml") as file:
            file.write(f"<annotation>\n{element('folder', folder)}\n{element('filename', name)}\n")
            file.write(f"<size>{''.join(element(side, value) for side, value in size.items())}</size>\n")
            file.write(f"{element('segmented', int(instances.masks is not None))}\n")
            for instance in instance_records(instances):
                file.write(self._object(instance) + "\n")
            file.write("</annotation>\n")

    def _object(self, instance: InstanceRecord) -> str:
        x, y, w, h = object_box(instance)
        said = {
            "name": self.destination.categories[instance["category_id"]].name,
            "pose": "Unspecified",
            "truncated": 0,
            "difficult": 0,
        }
        corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
        box = "".join(element(side, value) for side, value in corners.items())
        score = element("name", "score") + element("value", instance["score"])
        fields = "".join(element(tag, value) for tag, value in said.items())
        attributes = f"<attributes><attribute>{score}</attribute></attributes>"
        return f"<object>{fields}<bndbox>{box}</bndbox>{attributes}</object>"

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        shares = self.split
        parts = PARTS[: len(shares)] or ("trainval",)
        with ExitStack() as stack:
            lists = {
                part: [
                    stack.enter_context(self.destination.opened("voc", "ImageSets", each, f"{part}.txt"))
                    for each in _SETS
                ]
                for part in parts
            }
            for record in records():
                if record.status != "failed":
                    for file in lists[part_of(record.name, shares) if shares else parts[0]]:
                        file.write(f"{self.destination.stem(record.name)}\n")
        with self.destination.opened("voc", "labelmap.txt") as file:
            file.write("# label:color_rgb:parts:actions\n")
            names = ["background", *(category.name for category in self.destination.categories.values())]
            for name, colour in zip(names, VOC_PALETTE.tolist(), strict=False):
                file.write(f"{name.replace(':', '_')}:{','.join(map(str, colour))}::\n")

    def notes(self, records: Callable[[], Iterable[Record]]) -> Iterable[str]:
        return empty_parts("voc", self.split, records)
