"""How many objects a threshold finds, and how much besides: `python -m benchmarks.thresholds boxes|masks DATA`.

DATA is a folder with COCO's `annotations.json` and `images/`. A box (mask) is right if it has an IoU of 0.5 or more
with an object that no better one has found; crowd regions do not count. Precision is the share of what is kept that is
right, recall the share of the objects found.

- boxes: --conf against --iou of a detector
- masks: --pred-iou-thresh against --stability-score-thresh of `evsam everything --prompts grid`

The rows in `pipelines/detectors` and `pipelines/sam` hold what was chosen by these tables.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import torch
from support.runs import evsam
from torchvision.ops import nms

from pipelines.evaluation.annotations import TruthObject, read_ground_truth

HEAD = "| precision | recall | empty photos | {} a photo |\n| --- | --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class Found:
    """In one photo: N scores, best first; N stability scores; N xyxy boxes; N x M IoU with its objects."""

    scores: np.ndarray
    stability: np.ndarray
    boxes: np.ndarray
    iou: np.ndarray

    def kept(self, score: float, stability: float, overlap: float) -> np.ndarray:
        """N' x M IoU of what passes both and no better one overlaps by more than `overlap`."""
        passing = np.flatnonzero((self.scores >= score) & (self.stability >= stability))
        boxes, scores = (torch.from_numpy(values[passing]) for values in (self.boxes, self.scores))
        return self.iou[passing[nms(boxes, scores, overlap).numpy()]]


def right(iou: np.ndarray) -> int:
    """How many of N, best first, are right: each takes the best of M objects that is not yet taken."""
    free, count = np.ones(iou.shape[1], bool), 0
    for row in iou:
        best = np.where(free, row, -1)
        if best.size and best.max() >= 0.5:
            free[best.argmax()] = False
            count += 1
    return count


def print_row(photos: list[Found], first: float, second: float, *, stability: float, overlap: float) -> None:
    kept = [photo.kept(first, stability, overlap) for photo in photos]
    hits, total, objects = sum(map(right, kept)), sum(map(len, kept)), sum(iou.shape[1] for iou in kept)
    empty = sum(not len(iou) for iou in kept)
    print(
        f"| {first} | {second} | {hits / max(total, 1):.3f} | {hits / objects:.3f} "
        f"| {empty} of {len(kept)} | {total / len(kept):.1f} |",
        flush=True,
    )


def photos(data: Path, step: int, iou_of: Callable[..., np.ndarray], *command: object) -> Iterator[Found]:
    """What `command` finds in every step-th photo, and the IoU that `iou_of` works out with its objects."""
    truth = read_ground_truth(data / "annotations.json")
    ids = {image.name: image_id for image_id, image in list(truth.images.items())[::step]}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        evsam(*command, *(data / "images" / name for name in ids), "-o", out, "--save", "jsonl", "-q")
        records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert len(records) == len(ids)
    for record in records:
        objects = [o for o in truth.objects[ids[Path(record["name"]).name]] if not o.crowd]
        entries = sorted(record["instances"], key=lambda entry: -entry["score"])
        boxes = np.array([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        yield Found(
            np.array([entry["score"] for entry in entries], np.float32),
            np.array([entry.get("stability_score", 1) for entry in entries], np.float32),
            boxes,
            np.reshape(iou_of(entries, objects) if entries and objects else [], (len(entries), len(objects))),
        )


def box_iou(entries: list[dict[str, Any]], objects: list[TruthObject]) -> np.ndarray:
    boxes, theirs = np.array([entry["bbox"] for entry in entries]), np.array([o.bbox for o in objects])
    return hotcoco.mask.iou(boxes, theirs, [False] * len(objects))


def mask_iou(entries: list[dict[str, Any]], objects: list[TruthObject]) -> np.ndarray:
    rles = [entry["segmentation"] for entry in entries]
    return hotcoco.mask.iou(rles, [dict(o.rle) for o in objects], [False] * len(objects))


def boxes(data: Path, options: argparse.Namespace) -> None:
    command = ("detect", "--detector", options.model or "objects", "--conf", 0.01, "--iou", 1, "--max-det", 3000)
    found = list(photos(data, options.step, box_iou, *command))
    print("| --conf | --iou " + HEAD.format("boxes"))
    for overlap, score in product((0.45, 0.5, 0.6, 0.7), (0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25)):
        print_row(found, score, overlap, stability=0, overlap=overlap)


def masks(data: Path, options: argparse.Namespace) -> None:
    grid = ("--prompts", "grid", "--points-per-side", options.side, "--sam", options.model or "evsam-starter")
    every = ("--pred-iou-thresh", 0, "--stability-score-thresh", 0, "--box-nms-thresh", 1)
    found = list(photos(data, options.step, mask_iou, "everything", *grid, *every))
    print("| --pred-iou-thresh | --stability-score-thresh " + HEAD.format("masks"))
    for stability, score in product((0, 0.5, 0.7, 0.8, 0.9, 0.95), (0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.88)):
        print_row(found, score, stability, stability=stability, overlap=0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["boxes", "masks"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", help="the detector, or the SAM")
    parser.add_argument("--step", type=int, default=1, help="every so many photos")
    parser.add_argument("--side", type=int, default=16, help="clicks on a side of the grid")
    options = parser.parse_args()
    {"boxes": boxes, "masks": masks}[options.what](options.data, options)


if __name__ == "__main__":
    main()
