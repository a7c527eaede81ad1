"""COCO's files: results for evaluation (`COCO.loadRes`), with masks or boxes, and a data set for training (`COCO`).

They are streamed, one entry a line, and hold ASCII alone, since pycocotools reads them in the platform's encoding.
Masks are compressed RLE, or polygons where a data set is asked for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

from pipelines import rle
from pipelines.files import replacing, to_json
from pipelines.outlines import joined, outlines
from pipelines.outputs import Destination, Output
from pipelines.outputs.split import PARTS, empty_parts, part_of
from pipelines.records import InstanceRecord, Record


@dataclass(frozen=True)
class Results(Output):
    """`coco_results.json`: a list of every instance found. bbox and score are the detector's.

    file_name is added to what COCO has, so that whoever counts the images otherwise can still tell them.
    """

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        entries = (entry for record in records() for entry in _results(record))
        _write_results(self.destination, "coco_results.json", entries)


@dataclass(frozen=True)
class Boxes(Output):
    """`coco_boxes.json`: a list of every box found, to be read by a later run with `--boxes`.

    file_name and category_name are added to what COCO has, so that a run in which the ids mean other images or other
    classes still finds its own.
    """

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        names = {id: category.name for id, category in self.destination.categories.items()}
        entries = (entry for record in records() for entry in _boxes(record, names))
        _write_results(self.destination, "coco_boxes.json", entries)


@dataclass(frozen=True)
class Dataset(Output):
    """`coco_dataset.json`: images, annotations and categories. bbox and area are the mask's, score the detector's.

    Where there are no masks, bbox is the detector's, area the box's, and segmentation is empty.

    Images without objects are listed; those that failed are only counted, under info. polygons: outlines of the parts,
    holes joined to them by bridges, for tools that read no RLE. split: shares of PARTS, each of which has its own file
    `coco_dataset_<part>.json` instead.
    """

    polygons: bool = False
    split: Sequence[float] = ()

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        if not self.split:
            self._write("coco_dataset.json", records)
        for part in PARTS[: len(self.split)]:
            self._write(f"coco_dataset_{part}.json", partial(self._of_part, part, records))

    def notes(self, records: Callable[[], Iterable[Record]]) -> Iterable[str]:
        return empty_parts("dataset", self.split, records)

    def _of_part(self, part: str, records: Callable[[], Iterable[Record]]) -> Iterator[Record]:
        return (record for record in records() if part_of(record.name, self.split) == part)

    def _write(self, name: str, records: Callable[[], Iterable[Record]]) -> None:
        counts = Counter(record.status for record in records())
        info = {
            "description": "instances segmented by evsam",
            "images": {status: counts[status] for status in ("done", "empty", "failed")},
        }
        categories = ({"id": category.id, "name": category.name} for category in self.destination.categories.values())
        parts: dict[str, Iterable[dict[str, Any]]] = {
            "images": (image_entry(record) for record in records() if record.status != "failed"),
            "annotations": self._annotations(records()),
            "categories": categories,
        }
        path = self.destination.path(name)
        with (
            replacing(path, self.destination.scratch) as temporary,
            temporary.open("w", encoding="ascii", newline="\n") as file,
        ):
            file.write(f'{{"info":{compact_json(info)}')
            for name, entries in parts.items():
                file.write(f',\n"{name}":')
                write_list(file, entries)
            file.write("}\n")

    def _annotations(self, records: Iterable[Record]) -> Iterator[dict[str, Any]]:
        instances = ((record.image_id, instance) for record in records for instance in record.instances)
        for number, (image_id, instance) in enumerate(instances, 1):
            yield {
                "id": number,
                "image_id": image_id,
                "category_id": instance["category_id"],
                **self._shape(instance),
                "iscrowd": 0,
                "score": instance["score"],
                **_of_sam(instance),
            }

    def _shape(self, instance: InstanceRecord) -> dict[str, Any]:
        if "segmentation" in instance:
            mask = instance["segmentation"]
            shape = [joined(part).inset.ravel().tolist() for part in outlines(mask)] if self.polygons else mask
            return {"segmentation": shape, "area": rle.area(mask), "bbox": rle.bbox(mask)}
        _, _, width, height = instance["bbox"]
        return {"segmentation": [], "area": round(width * height, 3), "bbox": instance["bbox"]}


def _of_sam(instance: InstanceRecord) -> dict[str, Any]:
    """The scores of a mask that a SAM made."""
    return {key: instance[key] for key in ("predicted_iou", "stability_score") if key in instance}


def _results(record: Record) -> Iterator[dict[str, Any]]:
    for instance in record.instances:
        yield {
            "image_id": record.image_id,
            "file_name": record.name,
            **record.said_frame(),
            "category_id": instance["category_id"],
            "bbox": instance["bbox"],
            "score": instance["score"],
            **_of_sam(instance),
            "segmentation": instance["segmentation"],
        }


def _boxes(record: Record, names: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    for instance in record.instances:
        yield {
            "image_id": record.image_id,
            "file_name": record.name,
            **record.said_frame(),
            "category_id": instance["category_id"],
            "category_name": names[instance["category_id"]],
            "bbox": instance["bbox"],
            "score": instance["score"],
        }


def image_entry(record: Record) -> dict[str, Any]:
    """An image as COCO lists it."""
    size = {"width": record.width, "height": record.height}
    return {"id": record.image_id, "file_name": record.name, **size, **record.said_frame()}


def _write_results(destination: Destination, name: str, entries: Iterable[dict[str, Any]]) -> None:
    with (
        replacing(destination.path(name), destination.scratch) as temporary,
        temporary.open("w", encoding="ascii", newline="\n") as file,
    ):
        write_list(file, entries)
        file.write("\n")


def write_list(file: TextIO, entries: Iterable[dict[str, Any]]) -> None:
    """Write a JSON list, one entry a line, without holding it in memory."""
    file.write("[")
    before = "\n"
    for entry in entries:
        file.write(before + compact_json(entry))
        before = ",\n"
    file.write("\n]")


def compact_json(value: Any) -> str:
    """One line of ASCII."""
    return to_json(value, ascii_only=True, separators=(",", ":"))
