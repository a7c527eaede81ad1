"""What --box-margin and --min-mask-region-area do to masks and to the time they take: mIoU over annotated boxes.

python -m benchmarks.masks IMAGES ANNOTATIONS [--sam evsam-starter] [--detector objects]

Each image is encoded and each box decoded once; every variant is upscaled from the same low-res masks. Of a detector's
boxes those count whose IoU with an object's box is 0.5 or more, each for the object that it overlaps most.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou

from pipelines.detectors import Detector, DetectorConfig, build_detector
from pipelines.evaluation.annotations import TruthObject, read_ground_truth
from pipelines.evaluation.miou import iou
from pipelines.evaluation.photos import find_photos
from pipelines.evaluation.protocols import PROTOCOLS
from pipelines.sam import build_sam
from pipelines.sam.prompting import PixelPrompts
from pipelines.types import Float32, Image

MARGINS = (None, 0.0, 0.02, 0.05, 0.1, 0.2)
AREAS = (0, 10, 25, 50, 100, 200)


def asked(
    detector: Detector | None, image: Image, objects: Sequence[TruthObject]
) -> tuple[Float32, Sequence[TruthObject]]:
    """Boxes, N x 4 xyxy, and the object that each is for."""
    truth = np.array([each.bbox for each in objects], np.float32).reshape(-1, 4)
    truth[:, 2:] += truth[:, :2]
    if detector is None or not len(truth):
        return truth, objects
    (found,) = detector([image])
    overlaps = box_iou(torch.from_numpy(found.boxes), torch.from_numpy(truth)).numpy()
    good = overlaps.max(1, initial=0) >= 0.5
    return found.boxes[good], [objects[i] for i in overlaps[good].argmax(1)]


def measure(images: Path, annotations: Path, name: str, boxes_of: str | None) -> None:
    """Print a table: mIoU by size under the published protocol, and seconds of upscaling and cleaning."""
    truth = read_ground_truth(annotations)
    photos, sam, protocol = find_photos(truth, images), build_sam(name), PROTOCOLS["efficientvit-sam"]
    detector = build_detector(DetectorConfig(boxes_of)) if boxes_of else None
    variants = [(margin, area) for margin in MARGINS for area in AREAS]
    scores: dict[tuple[float | None, int], list[float]] = {variant: [] for variant in variants}
    seconds = dict.fromkeys(variants, 0.0)
    decoding, areas = 0.0, []
    for id, entry in truth.images.items():
        image = photos.load(entry)
        boxes, objects = asked(detector, image, truth.objects[id])
        if not len(boxes):
            continue
        sam.set_image(image.pixels)
        start = time.process_time()
        low_res = sam.image.segment([PixelPrompts(boxes=boxes)])[0]
        decoding += time.process_time() - start
        areas += [each.area for each in objects]
        for margin, area in variants:
            windows = None if margin is None else low_res.frame.windows(boxes, margin)
            start = time.process_time()
            masks = replace(low_res, windows=windows, min_mask_region_area=area).upscale()
            seconds[margin, area] += time.process_time() - start
            pairs = zip(masks.rles, objects, strict=True)
            scores[margin, area] += [iou(mask, each.rle, protocol.epsilon) for mask, each in pairs]
    print(f"{name}: {len(areas)} objects, decoding without upscaling {decoding:.1f} s")
    print("| margin | region area | mIoU | small | medium | large | upscaling, s |")
    for margin, area in variants:
        values = np.array(scores[margin, area])
        sizes = [
            np.mean([v for v, a in zip(values, areas, strict=True) if size in protocol.sizes(a)])
            for size in ("small", "medium", "large")
        ]
        row = [f"{value:.4f}" for value in (values.mean(), *sizes)]
        print(f"| {'none' if margin is None else margin} | {area} | {' | '.join(row)} | {seconds[margin, area]:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--sam", default="evsam-starter")
    parser.add_argument("--detector")
    given = parser.parse_args()
    measure(given.images, given.annotations, given.sam, given.detector)
