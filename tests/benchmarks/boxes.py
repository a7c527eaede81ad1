"""Time per box, plain formulation against ours, side by side: `python -m benchmarks.boxes [MODEL] [--threads N]`.

50 boxes on a 640 x 480 photograph in fp32 on the CPU; the image is encoded once, outside the timing. Plain is
`tests/reference/plain_sam.py`: every prompt carries its own image tokens, all three masks are upscaled in two full
resizes, the best is picked and encoded by pycocotools. The two run in turn; the ratio is taken pair by pair. A model
without weights here runs on seeded ones, whose masks are ragged and fill the picture: the worst case for the region
that ours computes.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np
import torch
from PIL import Image as Pil
from reference import plain_sam
from support.seeded import seeded_predictor

from pipelines import rle, run_info
from pipelines.images import sample_photos
from pipelines.sam import SAMS, build_sam
from weights import store


def boxes_for(count: int, height: int, width: int) -> np.ndarray:
    """`count` boxes with sides of 20 to 200 pixels, the same each time."""
    rng = np.random.default_rng(0)
    centres, sizes = rng.uniform(0, 1, (count, 2)) * [width, height], rng.uniform(20, 200, (count, 2))
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1).clip(0, [width, height] * 2).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="efficientvit-sam-l0", choices=list(SAMS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    seeded = store.locate(SAMS[options.model].weights or options.model) is None
    sam = seeded_predictor(options.model) if seeded else build_sam(options.model)
    photo = Pil.open(sample_photos()[0]).convert("RGB").resize((640, 853))
    pixels = np.asarray(photo)[200:680].copy()
    boxes = boxes_for(50, 480, 640)
    sam.set_image(pixels)

    plain_times, our_times = [], []
    for _ in range(options.rounds + 1):
        start = time.perf_counter()
        _, ious, plain_rles = plain_sam.segment_boxes(sam.model, sam.image_embedding, boxes, 480, 640)
        middle = time.perf_counter()
        ours = sam.segment_boxes(boxes)
        end = time.perf_counter()
        plain_times.append((middle - start) / len(boxes) * 1e3)
        our_times.append((end - middle) / len(boxes) * 1e3)
    differing = np.mean(
        [
            (rle.decode({"size": [480, 640], "counts": a["counts"].decode()}) != rle.decode(b)).mean()
            for a, b in zip(plain_rles, ours.rles, strict=True)
        ]
    )
    ratios = [plain / own for plain, own in zip(plain_times[1:], our_times[1:], strict=True)]
    print(f"{options.model}{' (seeded weights)' if seeded else ''}, {run_info.machine('cpu')['processor']}")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {options.threads} threads")
    for name, times in (("plain", plain_times[1:]), ("ours", our_times[1:])):
        print(f"{name:6} {statistics.median(times):7.1f} ms/box  ({min(times):.1f} to {max(times):.1f})")
    print(f"ratio  {statistics.median(ratios):7.2f}         ({min(ratios):.2f} to {max(ratios):.2f})")
    print(
        f"pixels that differ: {differing:.1e}; largest difference in predicted IoU: "
        f"{np.abs(np.array(ious) - ours.predicted_iou).max():.1e}"
    )


if __name__ == "__main__":
    main()
