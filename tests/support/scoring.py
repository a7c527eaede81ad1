"""What tests of scores share: the numbers of pycocotools, and records of given masks."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support.evaluation_cases import (
    HEIGHT,
    WIDTH,
    compressed,
    decoded,
)

from pipelines.records import InstanceRecord, Record


def pycocotools_stats(truth: dict, results: list[dict], kind: str) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        entries = copy.deepcopy(results)
        if kind == "segm":  # the published way: areas come from the masks
            for entry in entries:
                entry.pop("bbox")
        evaluation = COCOeval(coco, coco.loadRes(entries), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(map(float, evaluation.stats))


def records_for(truth: dict, masks: list[np.ndarray]) -> list[Record]:
    """One record per image whose instances are masks[i] for annotation i of the file."""
    records = []
    for image in truth["images"]:
        mine = [mask for mask, one in zip(masks, truth["annotations"], strict=True) if one["image_id"] == image["id"]]
        rows = tuple(
            InstanceRecord(
                category_id=2, bbox=[0, 0, 1, 1], score=1.0, predicted_iou=0.5, stability_score=1.0,
                area=int(mask.sum()), segmentation=compressed(mask),
            )
            for mask in mine
        )  # fmt: skip
        records.append(Record(image["file_name"], image["id"], WIDTH, HEIGHT, "done" if rows else "empty", None, rows))
    return records


def distorted(truth: dict, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shifts = [tuple(rng.integers(-9, 10, 2).tolist()) for _ in truth["annotations"]]
    return [
        np.roll(one["mask"], shift, (0, 1)) for one, shift in zip(decoded(truth["annotations"]), shifts, strict=True)
    ]
