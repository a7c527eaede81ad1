"""Labels that others have written: the boxes and masks of images, as annotation tools and trainers keep them.

A row is one file of this folder. Its target is a reader, called as `(path, asked)`, which gives `Labels`: images one at
a time, so that memory does not grow with their number. `open_labels` finds the row by what a file or folder holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.labels.left_out import LeftOut
from pipelines.registry import Registry, Row

if TYPE_CHECKING:
    from pipelines.labels.glimpse import Glimpse
    from pipelines.records import Record
    from pipelines.types import Category, Frame


@dataclass(frozen=True)
class Asked:
    """What a reader is asked for.

    masks: False where boxes alone are wanted, those of masks and polygons, too; sizes are then not needed. photos: the
    folder of the photographs, None for where the format has them; sizes: (width, height) of images whose size is known
    without, by name without extension. names: of the classes, in the order of their numbers, for formats that may lack
    them.
    """

    masks: bool = True
    photos: Path | None = None
    names: tuple[str, ...] | None = None
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """What is labelled.

    categories: all that instances can have. records: to be streamed once. count: how many there will be. left_out: what
    of the file is in no record, counted on the way. photos: where the photographs of images are, as far as the reader
    knows, who may learn it on the way. ids: whether image ids are the file's own; named: whether it names its
    categories, which else have but ids.

    of_files: the names are those of label files, beside which the images are to be found by their stems. shares: every
    image is 1 x 1, since boxes count in shares of it. frame: how the format counts the pixels of photos that EXIF
    turns, where a record does not say.
    """

    categories: tuple[Category, ...]
    records: Iterator[Record]
    count: int
    left_out: LeftOut
    photos: Mapping[str, Path] = field(default_factory=dict)
    ids: bool = False
    named: bool = True
    of_files: bool = False
    shares: bool = False
    frame: Frame | None = "upright"


@dataclass(frozen=True)
class LabelRow(Row):
    """A format. sign: whether a file may be of it; suffixes: of its files; many: a folder of them is read as one, else
    a folder has to hold but one.
    """

    suffixes: tuple[str, ...] = (".json",)

    sign: Callable[[Glimpse], bool] = lambda glimpse: False
    many: bool = False


LABELS = Registry(
    "label format",
    [
        LabelRow(
            "coco",
            "pipelines.labels.coco:read_ground_truth",
            "COCO ground truth (JSON)",
            sign=lambda seen: "images" in seen.lists or {"annotations", "categories"} <= seen.lists,
        ),
        LabelRow(
            "coco-results",
            "pipelines.labels.coco:read_results",
            "COCO results (a JSON list)",
            sign=lambda seen: seen.listed and ("image_id" in seen.keys or not seen.keys),
        ),
        LabelRow(
            "jsonl",
            "pipelines.labels.jsonl:read",
            "evsam's records.jsonl",
            suffixes=(".jsonl",),
            sign=lambda seen: not seen.listed and {"image_id", "instances"} <= seen.keys,
        ),
        LabelRow(
            "yolo",
            "pipelines.labels.yolo:read",
            "YOLO text files, with data.yaml or classes.txt",
            suffixes=(".txt",),
            sign=lambda seen: seen.of_numbers,
            many=True,
        ),
        LabelRow(
            "labelme",
            "pipelines.labels.labelme:read",
            "LabelMe JSON, one file a photo",
            sign=lambda seen: not seen.listed and not seen.keys.isdisjoint({"shapes", "imagePath"}),
            many=True,
        ),
        LabelRow(
            "voc",
            "pipelines.labels.voc:read",
            "Pascal VOC XML, one file a photo",
            suffixes=(".xml",),
            sign=lambda seen: seen.root == "annotation",
            many=True,
        ),
        LabelRow(
            "cvat",
            "pipelines.labels.cvat:read",
            "CVAT for images 1.1 (XML)",
            suffixes=(".xml",),
            sign=lambda seen: seen.root == "annotations",
        ),
        LabelRow(
            "label-studio",
            "pipelines.labels.label_studio:read",
            "Label Studio's JSON export",
            sign=lambda seen: "data" in seen.keys,
        ),
        LabelRow(
            "csv",
            "pipelines.labels.table:read",
            "CSV, a row an object: image and a box; evsam's has masks, too",
            suffixes=(".csv",),
            sign=lambda seen: b"image" in seen.header,
        ),
        LabelRow(
            "parquet",
            "pipelines.labels.parquet:read",
            "evsam's Parquet file",
            extra="parquet",
            suffixes=(".parquet",),
            sign=lambda seen: seen.start.startswith(b"PAR1"),
        ),
    ],
)
