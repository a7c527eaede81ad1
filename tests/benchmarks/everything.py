"""What the strategies of `evsam everything` cost and find. The tables of docs/benchmarks/everything.md come from here.

python -m benchmarks.everything speed PHOTO...       `grid` beside the plain formulation, and whether they agree
python -m benchmarks.everything recall IMAGES TRUTH  each strategy's seconds, masks and recall of COCO annotations

Set OMP_NUM_THREADS for the number of threads. Weights are the bundled ones, or with --seeded those of a model drawn
from its own key names: then thresholds mean nothing, and are set so that --share of all masks pass each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pil
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from reference import plain_everything
from support.seeded import seeded_predictor

from pipelines import rle
from pipelines.everything import STRATEGIES
from pipelines.everything.crops import Crop, clicks
from pipelines.everything.grid import ask_grid
from pipelines.everything.search import search_job
from pipelines.run.loop import results_of
from pipelines.run.stages import StageClock
from pipelines.run_info import machine, peak_memory_mib
from pipelines.sam import SamConfig, build_sam
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Image, Instances

MOST = 1000
"""Masks of an image that count towards recall."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    speed_parser = verbs.add_parser("speed")
    speed_parser.add_argument("photos", nargs="+", type=Path)
    speed_parser.add_argument("--share", type=float)
    speed_parser.set_defaults(run=speed)
    recall_parser = verbs.add_parser("recall")
    recall_parser.add_argument("images", type=Path)
    recall_parser.add_argument("truth", type=Path)
    recall_parser.add_argument("--limit", type=int, help="only so many photos")
    recall_parser.add_argument("--strategies", default="grid,hierarchical,objects")
    recall_parser.set_defaults(run=recall)
    for each in (speed_parser, recall_parser):
        each.add_argument("--sam", default="evsam-starter")
        each.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of the configuration")
    speed_parser.add_argument("--seeded", action="store_true")
    options = parser.parse_args()
    print(f"{options.sam}{' (seeded weights)' if getattr(options, 'seeded', False) else ''}, "
          f"{machine('cpu')['processor']}, {torch.get_num_threads()} threads")  # fmt: skip
    options.run(options)


def photo(path: Path) -> Image:
    return Image(path.name, np.asarray(Pil.open(path).convert("RGB")))


def configure(strategy: str, values: list[str]) -> Any:
    """The strategy's configuration with those FIELD=VALUE that it has."""
    config = STRATEGIES[strategy].config()
    given = dict(value.split("=") for value in values)
    known = asdict(config)
    return replace(config, **{key: type(known[key])(value) for key, value in given.items() if key in known})


# Speed


def speed(options: argparse.Namespace) -> None:
    """Fast, plain and fast again, one after the other, so that a busy machine slows all of them alike."""
    sam = seeded_predictor(options.sam) if options.seeded else build_sam(options.sam)
    for path in options.photos:
        image, config = photo(path), configure("grid", options.set)
        if options.share:
            config = replace(config, **thresholds(sam, image, options.share))
        seconds, found = [], None
        for _ in range(2):
            clock = StageClock()
            start = time.perf_counter()
            (found,) = results_of(search_job(sam, config, ask_grid), [image], clock)
            seconds.append(time.perf_counter() - start)
            if len(seconds) == 1:
                fast_memory = peak_memory_mib()
                start = time.perf_counter()
                plain = [mask for mask in plain_everything.everything(sam, image.pixels, config) if mask.mask.any()]
                plain_seconds = time.perf_counter() - start
        assert found is not None
        print(json.dumps(asdict(config)))
        print(f"{path.name} {image.width} x {image.height}: plain {plain_seconds:.1f} s, fast {seconds[0]:.1f} and "
              f"{seconds[1]:.1f} s, {2 * plain_seconds / sum(seconds):.1f} times faster; peak memory {fast_memory:.0f} "
              f"and {peak_memory_mib():.0f} MiB; {compare(found, plain)}")  # fmt: skip


def thresholds(sam: SamPredictor, image: Image, share: float) -> dict[str, float]:
    """Thresholds which that share of the masks of a sparse grid passes: of predicted IoU, and the rest of stability."""
    sam.set_image(image.pixels)
    offset = 0.02
    points = clicks(Crop(0, 0, image.width, image.height, 0), 8)
    chunks = list(sam.image.candidates(points, min_iou=-np.inf, at_once=64))
    iou = np.concatenate([chunk.predicted_iou for chunk in chunks])
    least = max(float(np.quantile(iou, 1 - share)), 1e-6)
    regions = (region for chunk in chunks for region in sam.image.upscaler.logit_windows(chunk.low_res, -offset))
    stability = np.array([region.stability(offset) for region in regions])[iou > least]
    return {
        "pred_iou_thresh": least,
        "stability_score_offset": offset,
        "stability_score_thresh": float(np.quantile(stability, 1 - share)),
    }


def compare(found: Instances, plain: list[plain_everything.Found]) -> str:
    """How far two results are apart, mask for mask."""
    if len(found) != len(plain):
        return f"DIFFERENT NUMBERS OF MASKS, {len(found)} and {len(plain)}"
    apart = [int((rle.decode(a) != b.mask).sum()) for a, b in zip(found.rles, plain, strict=True)]
    boxes = sum(
        [x0, y0, x1 - 1, y1 - 1] != b.box for (x0, y0, x1, y1), b in zip(found.detections.boxes, plain, strict=True)
    )
    return f"{len(plain)} masks each, {sum(apart)} pixels apart, {max(apart, default=0)} in the worst, {boxes} boxes"


# Recall


def recall(options: argparse.Namespace) -> None:
    """Average recall over IoU 0.5 to 0.95, classes ignored, crowds left out."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(options.truth)
    images = sorted(truth.imgs.values(), key=lambda image: image["id"])[: options.limit]
    print("| strategy | s/photo | masks/photo | AR | AR small | AR medium | AR large | settings |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for strategy in options.strategies.split(","):
        config = configure(strategy, options.set)
        job = STRATEGIES[strategy].load()(SamConfig(options.sam), config, offline=True)
        results, seconds = [], 0.0
        for row in images:
            image = photo(options.images / row["file_name"])
            start = time.perf_counter()
            (found,) = results_of(job, [image], StageClock())
            seconds += time.perf_counter() - start
            assert isinstance(found, Instances)
            results += [
                {"image_id": row["id"], "category_id": 1, "segmentation": mask, "score": float(score)}
                for mask, score in zip(found.rles, found.masks.predicted_iou, strict=True)
            ]
        average = [f"{value:.3f}" for value in average_recall(truth, [row["id"] for row in images], results)]
        changed = {
            key: value for key, value in asdict(config).items() if value != asdict(STRATEGIES[strategy].config())[key]
        }
        cells = [strategy, f"{seconds / len(images):.1f}", f"{len(results) / len(images):.0f}", *average]
        print(f"| {' | '.join(cells)} | {json.dumps(changed)} |", flush=True)


def average_recall(truth: COCO, image_ids: list[int], results: list[dict[str, Any]]) -> list[float]:
    """Of all objects, and of small, medium and large ones."""
    if not results:
        return [0.0] * 4
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.params.imgIds, evaluation.params.useCats, evaluation.params.maxDets = image_ids, 0, [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    return [float(area[area > -1].mean()) for area in np.moveaxis(evaluation.eval["recall"][:, 0, :, 0], 1, 0)]


if __name__ == "__main__":
    main()
