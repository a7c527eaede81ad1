"""Ours beside what a user would otherwise take, on a CPU: `python -m benchmarks.others [transformers|ultralytics]`.

transformers: its `SamModel`, and its mask-generation pipeline, with SAM ViT-B. ultralytics: its `SAM` with MobileSAM.
Both get the seeded weights of the tests, converted, as ours does; a photograph of 1024 x 1024, which nobody has to
resize or to pad (ultralytics pads with grey, SAM with black); the same 50 boxes, best of three masks by predicted IoU;
the same 16 x 16 clicks, with a threshold of predicted IoU that a third of their masks pass, and none of stability, as
masks of drawn weights are never stable. Their masks are arrays, ours run lengths. All take turns; ratios are taken
round by round; seconds are of the processor. Set OMP_NUM_THREADS for the number of threads. The tables of
docs/benchmarks/others.md come from here.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.boxes import boxes_for
from PIL import Image as Pil
from support.seeded import official_weights, seeded_predictor

from pipelines import rle, run_info
from pipelines.benchmark.timing import Failed, in_turn
from pipelines.everything.config import GridConfig
from pipelines.everything.grid import ask_grid
from pipelines.everything.search import search_job
from pipelines.images import sample_photos
from pipelines.run.loop import results_of
from pipelines.run.stages import StageClock
from pipelines.sam.encoders.vit import HUB
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Bool, Float32, Image, Instances, Masks, UInt8

SIDE, STEP = 16, 64
"""Clicks on a side of the grid, and those decoded at once."""


@dataclass(frozen=True)
class Bench:
    """One photograph, and what is asked of it."""

    pixels: UInt8
    boxes: Float32
    grid: GridConfig


Works = Mapping[str, Callable[[], Any]]
"""Photograph to masks of boxes, masks of boxes of an encoded photograph, photograph to masks of a grid."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="*", default=list(OTHERS), choices=list(OTHERS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    machine = run_info.machine("cpu")
    print(f"{machine['processor']}, {machine['threads']} threads, {json.dumps(run_info.versions())}")
    pixels = np.asarray(Pil.open(sample_photos()[0]).convert("RGB").resize((1024, 1365)))[300:1324].copy()
    for name in options.other:
        model, works_of = OTHERS[name]
        sam = seeded_predictor(model)
        bench = Bench(pixels, boxes_for(50, *pixels.shape[:2]), thresholds(sam, pixels))
        compare(f"{model}, {name}", our_works(sam, bench), works_of(model, bench), options.rounds)


def compare(title: str, ours: Works, theirs: Works, rounds: int) -> None:
    """As a Markdown table."""
    print(f"\n| {title} | ours, s | theirs, s | times as fast | masks | IoU, mean | worst |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for work, own in ours.items():
        found = in_turn(
            {"ours": own, "theirs": theirs[work]}, rounds=rounds, device=torch.device("cpu"), clock=time.process_time
        )
        one, other = found["ours"], found["theirs"]
        assert not isinstance(one, Failed) and not isinstance(other, Failed)
        overlaps = overlap(masks_of(one.result), masks_of(other.result))
        medians = f"{one.median:.2f} | {other.median:.2f} | {one.faster_than(other):.2f}"
        print(f"| {work} | {medians} | {len(overlaps)} | {overlaps.mean():.4f} | {overlaps.min():.4f} |", flush=True)


def masks_of(found: Masks | Instances | Bool) -> Bool:
    """N x H x W."""
    return found if isinstance(found, np.ndarray) else np.stack([rle.decode(mask) for mask in found.rles])


def overlap(ours: Bool, theirs: Bool) -> Float32:
    """Of each of theirs, the IoU with ours: of the same box where there are as many, else with the best."""
    a, b = (masks.reshape(len(masks), -1).astype(np.float32) for masks in (ours, theirs))
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1) - both
    iou: Float32 = np.where(either, both / np.maximum(either, 1), 1)
    return iou.max(0)


def thresholds(sam: SamPredictor, pixels: UInt8) -> GridConfig:
    """Such as a third of the masks pass by predicted IoU, and all by stability."""
    sam.set_image(pixels)
    height, width = pixels.shape[:2]
    y, x = (np.mgrid[:SIDE, :SIDE].reshape(2, -1) + 0.5) / SIDE
    points = np.stack([x * width, y * height], 1)[:, None].astype(np.float32)
    found = [sam.predict(points=part, labels=np.ones((len(part), 1))) for part in np.array_split(points, 8)]
    least = float(np.quantile(np.concatenate([part.predicted_iou for part in found]), 2 / 3))
    return GridConfig(points_per_side=SIDE, points_per_batch=STEP, pred_iou_thresh=least, stability_score_thresh=0.0)


def our_works(sam: SamPredictor, bench: Bench) -> Works:
    job = search_job(sam, bench.grid, ask_grid)

    def boxes() -> Masks:
        sam.set_image(bench.pixels)
        return sam.segment_boxes(bench.boxes)

    def grid() -> Instances:
        (found,) = results_of(job, [Image("photo", bench.pixels)], StageClock())
        assert isinstance(found, Instances)
        return found

    sam.set_image(bench.pixels)
    return {BOXES: boxes, ENCODED: lambda: sam.segment_boxes(bench.boxes), GRID: grid}


BOXES, ENCODED, GRID = "photograph to 50 boxes", "50 boxes, encoded", f"photograph to {SIDE} x {SIDE} clicks"


def transformers_works(model: str, bench: Bench) -> Works:
    import transformers

    network = transformers.SamModel(transformers.SamConfig()).eval()
    official, named = official_weights(model), {}
    for key in network.state_dict():
        name = key.replace("prompt_encoder.shared_embedding", "shared_image_embedding")
        for pattern, replacement in HUB:
            name = re.sub(pattern, replacement, name)
        named[key] = official[name]
    network.load_state_dict(named)
    shapes = transformers.SamImageProcessor()
    processor = transformers.SamProcessor(shapes)
    photo = Pil.fromarray(bench.pixels)

    @torch.inference_mode()
    def ask(**known: Any) -> Bool:
        inputs = processor(photo, input_boxes=[bench.boxes.tolist()], return_tensors="pt")
        sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        if known:
            inputs.pop("pixel_values")
        found = network(**inputs, **known)
        (masks,) = shapes.post_process_masks(found.pred_masks, *sizes)
        best = found.iou_scores[0].argmax(1)
        return masks[torch.arange(len(best)), best].numpy()

    pipeline = transformers.pipeline("mask-generation", model=network, image_processor=shapes, device="cpu")
    config = bench.grid

    def grid() -> Bool:
        found = pipeline(
            photo,
            points_per_crop=SIDE,
            points_per_batch=STEP,
            pred_iou_thresh=config.pred_iou_thresh,
            stability_score_thresh=config.stability_score_thresh,
        )
        return np.stack([np.asarray(mask) for mask in found["masks"]])

    with torch.inference_mode():
        embeddings = network.get_image_embeddings(shapes(photo, return_tensors="pt")["pixel_values"])
    return {BOXES: ask, ENCODED: lambda: ask(image_embeddings=embeddings), GRID: grid}


def ultralytics_works(model: str, bench: Bench) -> Works:
    from ultralytics.models.sam import Predictor

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mobile_sam.pt")
        torch.save(official_weights(model), path)
        settings = {"imgsz": 1024, "device": "cpu", "verbose": False, "save": False, "iou": bench.grid.box_nms_thresh}
        predictor = Predictor(overrides={"model": str(path), "task": "segment", "mode": "predict", **settings})
        predictor.setup_model(verbose=False)
        predictor.args.conf = -1e9  # predicted IoU of seeded weights may be negative
    photo = bench.pixels[..., ::-1].copy()

    def boxes(source: UInt8 | None) -> Bool:
        (found,) = predictor(source, bboxes=bench.boxes, multimask_output=True)
        masks, scores = found.masks.data.numpy(), found.boxes.conf.numpy().reshape(-1, 3)
        return masks.reshape(*scores.shape, *masks.shape[1:])[np.arange(len(scores)), scores.argmax(1)].astype(bool)

    def boxes_of_photo() -> Bool:
        predictor.reset_image()
        return boxes(photo)

    def encoded() -> Bool:
        return boxes(None)

    def grid() -> Bool:
        predictor.reset_image()
        (found,) = predictor(
            photo,
            points_stride=SIDE,
            points_batch_size=STEP,
            conf_thres=bench.grid.pred_iou_thresh,
            stability_score_thresh=-1.0,  # it keeps what is above
        )
        return found.masks.data.numpy().astype(bool)

    return {BOXES: boxes_of_photo, ENCODED: encoded, GRID: grid}


OTHERS = {"transformers": ("sam-vit-b", transformers_works), "ultralytics": ("mobile-sam", ultralytics_works)}


if __name__ == "__main__":
    main()
