"""evsam's own records: a JSON line an image, see `pipelines.records`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines import coco, rle
from pipelines.errors import DataError
from pipelines.files import reading
from pipelines.labels import Asked, Labels
from pipelines.labels.classes import categories_of_ids
from pipelines.labels.left_out import LeftOut
from pipelines.labels.values import name_below
from pipelines.records import InstanceRecord, Record
from pipelines.segmentations import to_rle
from pipelines.types import Category

_WHAT = "a file of records"


def read(path: Path, asked: Asked) -> Labels:
    """path: a file. The run.json beside it names the classes. See `pipelines.labels`."""
    ids, count = set[int](), 0
    for record in _records(path):
        count += 1
        ids.update(instance["category_id"] for instance in record.instances)
    named = categories_of_run(path.parent / "run.json")
    categories = named or categories_of_ids(ids, asked.names)
    known = {category.id for category in categories}
    if missing := ids - known:
        raise DataError(f"{path} has category {min(missing)}, which nothing names")
    return Labels(tuple(categories), _records(path), count, LeftOut(), ids=True, named=bool(named), frame=None)


def categories_of_run(path: Path) -> Sequence[Category]:
    """What a run says of its classes, nothing where it says none."""
    if not path.is_file():
        return ()
    with reading(path, "the run.json of a run"):
        named = json.loads(path.read_text("utf-8"))["categories"]
        return [Category(int(id), str(name)) for id, name in named.items()]


def _records(path: Path) -> Iterator[Record]:
    with reading(path, _WHAT), path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                with coco.named(f"{path}: line {number}"):
                    try:
                        yield checked(Record.from_line(line))
                    except ValueError as error:
                        raise DataError(str(error)) from error


def checked(record: Record) -> Record:
    """A record of a stranger's, in which all is as it should be. Raises DataError."""
    coco.whole_number({"image_id": record.image_id}, "image_id")
    name = name_below("", record.name)
    if record.status == "failed":
        return replace(record, name=name)
    size = coco.image_size({"width": record.width, "height": record.height})
    instances: Iterable[InstanceRecord] = coco.each("instance", record.instances, lambda _, each: _instance(each, size))
    return replace(record, name=name, instances=tuple(instances))


def _pair(point: object) -> list[Any]:
    if not isinstance(point, list) or len(point) != 2:
        raise DataError(f"'point' is {coco.told(point)}, not [x, y]")
    return point


def _instance(entry: dict[str, Any], size: tuple[int, int]) -> InstanceRecord:
    found = InstanceRecord(
        category_id=coco.whole_number(entry, "category_id"),
        bbox=list(coco.box(entry)),
        score=coco.number(entry, "score"),
    )
    for field in ("predicted_iou", "stability_score"):
        if field in entry:
            found[field] = coco.number(entry, field)
    if "segmentation" in entry:
        mask = to_rle(entry["segmentation"], size[1], size[0])
        found["area"], found["segmentation"] = rle.area(mask), mask
    if "point" in entry:
        x, y, *_ = coco.four_numbers({"point": [*_pair(entry["point"]), 0, 0]}, "point")
        found["point"] = [x, y]
    if "crop_box" in entry:
        found["crop_box"] = list(coco.box(entry, "crop_box"))
    return found
