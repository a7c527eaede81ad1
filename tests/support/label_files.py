"""One scene in every format of labels: what tools write, cut down to what tells them apart.

`photos/a.png`, 20 x 10: a person, whose mask is the ring of `RING`, and the box of a dog, 10, 1 to 16, 9.
`photos/b.png`: nothing. Formats that have no place for a hole have the person's box as a polygon.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image as Pil

from pipelines.rle import encode

WIDTH, HEIGHT = 20, 10
RING = np.zeros((HEIGHT, WIDTH), np.bool_)
RING[3:7, 2:8] = True
RING[4:6, 4:6] = False
SOLID = np.zeros((HEIGHT, WIDTH), np.bool_)
SOLID[3:7, 2:8] = True
PERSON, DOG = [2.0, 3.0, 6.0, 4.0], [10.0, 1.0, 6.0, 8.0]
"""xywh."""
SQUARE = [[2, 3], [8, 3], [8, 7], [2, 7]]


def runs(mask: np.ndarray) -> list[int]:
    """Lengths of equal values, the first of False, perhaps 0."""
    found = [len(list(group)) for _, group in groupby(mask.ravel().tolist())]
    return [0, *found] if mask.flat[0] else found


def brush(mask: np.ndarray) -> list[int]:
    """A mask as Label Studio packs it, by runs of one value and, every other time, values one by one."""
    rgba = np.repeat(np.where(mask, 255, 0).astype(np.uint8).ravel(), 4).tolist()
    bits = f"{len(rgba):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    for number, (value, group) in enumerate(groupby(rgba)):
        length, one = len(list(group)), f"{value:08b}"
        bits += f"{number % 2}11{length - 1:016b}{one if number % 2 else one * length}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def _shape(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": kind, "type": kind, "original_width": WIDTH, "original_height": HEIGHT, "value": value, **more}


_COCO = {
    "info": {"year": 2026},
    "images": [
        {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
        {"id": 8, "file_name": "b.png", "width": WIDTH, "height": HEIGHT},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 1,
            "bbox": PERSON,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs(RING.T)},
        },
        {"id": 2, "image_id": 7, "category_id": 18, "bbox": DOG},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
}
_LABELME = {
    "version": "5.5.0",
    "shapes": [
        {"label": "person", "points": SQUARE, "group_id": None, "shape_type": "polygon", "flags": {}},
        {"label": "dog", "points": [[16, 9], [10, 1]], "shape_type": "rectangle"},
    ],
    "imagePath": "..\\photos\\a.png",
    "imageData": None,
    "imageHeight": HEIGHT,
    "imageWidth": WIDTH,
}
_VOC = """<annotation><folder>photos</folder><filename>{name}</filename>
<size><width>20</width><height>10</height><depth>3</depth></size>{objects}</annotation>"""
_VOC_OBJECTS = """<object><name>person</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>8</xmax><ymax>7</ymax></bndbox>
<polygon><x1>3</x1><y1>4</y1><x2>9</x2><y2>4</y2><x3>9</x3><y3>8</y3><x4>3</x4><y4>8</y4></polygon></object>
<object><name>dog</name><bndbox><xmin>11</xmin><ymin>2</ymin><xmax>16</xmax><ymax>9</ymax></bndbox></object>"""
_CVAT = f"""<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
<meta><task><labels><label><name>person</name></label><label><name>dog</name></label></labels></task></meta>
<image id="0" name="a.png" width="20" height="10">
<mask label="person" rle="{", ".join(map(str, runs(RING[3:7, 2:8])))}" left="2" top="3" width="6" height="4"></mask>
<box label="dog" xtl="10" ytl="1" xbr="16" ybr="9" occluded="0"></box></image>
<image id="1" name="b.png" width="20" height="10"></image></annotations>"""
_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/1a2b3c4d-a.png"},
        "annotations": [
            {
                "result": [
                    _shape("brushlabels", {"format": "rle", "rle": brush(RING), "brushlabels": ["person"]}),
                    _shape(
                        "rectanglelabels", {"x": 50, "y": 10, "width": 30, "height": 80, "rectanglelabels": ["dog"]}
                    ),
                ]
            }
        ],
    },
    {"id": 2, "data": {"image": "s3://bucket/b.png", "width": WIDTH, "height": HEIGHT}, "annotations": []},
]
_RECORD = {"name": "a.png", "image_id": 7, "width": WIDTH, "height": HEIGHT, "status": "done", "reason": None}
_INSTANCES: list[dict[str, Any]] = [
    {"category_id": 1, "bbox": PERSON, "score": 1.0, "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs(RING.T)}},
    {"category_id": 18, "bbox": DOG, "score": 1.0},
]

_ROWS = [
    {
        **{"image": "a.png", "image_id": 7, "width": WIDTH, "height": HEIGHT, "category": name, "category_id": id},
        **dict(zip("xywh", box, strict=True)),
        "score": 1.0,
        "rle": rle,
    }
    for name, id, box, rle in (("person", 1, PERSON, encode(RING)["counts"]), ("dog", 18, DOG, None))
]


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


def _csv(rows: list[dict[str, Any]]) -> str:
    lines = [",".join(rows[0]), *(",".join("" if cell is None else str(cell) for cell in row.values()) for row in rows)]
    return "".join(f"{line}\n" for line in lines)


FILES: dict[str, dict[str, Any]] = {
    "coco": {"labels.json": _COCO},
    "coco-results": {
        "labels.json": [{"image_id": 7, "file_name": "a.png", "score": 1.0, **each} for each in _INSTANCES]
    },
    "jsonl": {
        "records.jsonl": json.dumps({**_RECORD, "instances": _INSTANCES})
        + "\n"
        + json.dumps({**_RECORD, "name": "b.png", "image_id": 8, "status": "empty", "instances": []})
        + "\n"
    },
    "yolo": {
        "data.yaml": "path: .\ntrain: photos\nnames:\n  0: person\n  1: dog\n",
        "photos/a.txt": "0 0.1 0.3 0.4 0.3 0.4 0.7 0.1 0.7\n1 0.65 0.5 0.3 0.8\n",
        "photos/b.txt": "",
    },
    "labelme": {
        "labels/a.json": _LABELME,
        "labels/b.json": {**_LABELME, "shapes": [], "imagePath": "../photos/b.png"},
    },
    "voc": {
        "Annotations/a.xml": _VOC.format(name="a.png", objects=_VOC_OBJECTS),
        "Annotations/b.xml": _VOC.format(name="b.png", objects=""),
    },
    "cvat": {"annotations.xml": _CVAT},
    "label-studio": {"export.json": _STUDIO},
    "csv": {"labels.csv": _csv(_ROWS)},
    "parquet": {"labels.parquet": _parquet(_ROWS)},
}
"""By format: path below a folder -> its text or bytes, or what is in its JSON."""
HOLED = ("coco", "coco-results", "jsonl", "cvat", "label-studio", "csv", "parquet")
"""Formats that have the hole."""
WITHOUT_EMPTY = ("coco-results", "csv", "parquet")
"""Formats that list objects alone, and no image without."""


def write_files(folder: Path, files: dict[str, Any], *, photos: bool = True) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    if photos:
        (folder / "photos").mkdir(parents=True, exist_ok=True)
        for name in ("a", "b"):
            Pil.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(folder / "photos" / f"{name}.png")
    return folder
