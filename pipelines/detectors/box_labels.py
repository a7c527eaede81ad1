"""Boxes of what `pipelines.labels` reads: those of masks, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipelines.detectors.box_columns import BoxTable, Columns, ListedImage
from pipelines.errors import DataError
from pipelines.labels import Asked, Labels
from pipelines.labels.glimpse import open_labels
from pipelines.types import Category


def read_label_boxes(
    path: Path, name: str | None, categories: Sequence[Category] | None, class_names: Sequence[str] | None
) -> BoxTable:
    """See `box_table.read_box_table`. name: of the format, None to look."""
    asked = Asked(masks=False, names=None if class_names is None else tuple(class_names))
    labels = open_labels(path, asked, name)
    columns, images, places = Columns(), list[ListedImage](), list[int]()
    known = {category.id: category.id for category in labels.categories}
    if categories is not None:
        known = _ids_of(path, labels, categories)
    for record in labels.records:
        if record.status == "failed":
            continue
        size = (record.width, record.height) if min(record.width, record.height) > 1 else None
        images.append(
            ListedImage(record.name, record.image_id if labels.ids else None, size, record.frame or labels.frame)
        )
        for instance in record.instances:
            columns.add(record.name, instance["bbox"], instance["score"], known[instance["category_id"]])
            if len(columns.images) > len(places):
                places.append(len(images) - 1)
    if len({image.name for image in images}) < len(images):
        raise DataError(f"{path}: two of its images have the same name")
    table = columns.table(
        images,
        "xywh-normalised" if labels.shares else "xywh",
        labels.categories if categories is None else categories,
        name_entry=lambda index: f"{path}: box {index}",
        image_indices=places,
    )
    return replace(table, of_files=labels.of_files, notes=tuple(labels.left_out.notes(path.name)))


def _ids_of(path: Path, labels: Labels, categories: Sequence[Category]) -> dict[int, int]:
    """By id in the file: that of the category of the same name."""
    by_name = {category.name: category.id for category in categories}
    for category in labels.categories:
        if category.name not in by_name:
            raise DataError(f"{path}: its class {category.name!r} is none of the categories")
    return {category.id: by_name[category.name] for category in labels.categories}
