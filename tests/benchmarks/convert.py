"""Seconds of the processor and peak memory of `evsam convert`, a process a kind: `python -m benchmarks.convert`.

The source is a COCO file of N images of 640 x 480 with nine objects each: ellipses with a hole, as RLE, and as every
third a second part; its annotations are shuffled, as COCO's are. Kinds that show photos are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipelines import rle
from pipelines.outputs import OUTPUTS, outputs_of

HEIGHT, WIDTH, OBJECTS = 480, 640, 9
MEASURED = """
import sys, time
from evsam_cli.__main__ import main
from pipelines.run_info import peak_memory_mib
start = time.process_time()
try:
    main()
finally:
    print("figures", time.process_time() - start, peak_memory_mib())
"""


def masks(count: int) -> list[dict[str, object]]:
    """A few hundred, from which images draw."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        h, w = (int(side) for side in rng.integers(20, 160, 2))
        y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        distance = np.hypot(y, x)
        region = (distance < 1) & (distance > 0.3)
        if number % 3 == 0:
            region[h // 2] = False
        top, left = int(rng.integers(0, HEIGHT - h)), int(rng.integers(0, WIDTH - w))
        mask = rle.from_region(region, left, top, HEIGHT, WIDTH)
        found.append({"segmentation": mask, "bbox": rle.bbox(mask), "area": rle.area(mask)})
    return found


def write_source(path: Path, images: int) -> Path:
    shapes, rng = masks(300), np.random.default_rng(images)
    listed = [{"id": i, "file_name": f"{i:06}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(1, images + 1)]
    annotations = [
        {"id": number, "image_id": int(number % images) + 1, "category_id": 1 + int(number % 3), "iscrowd": 0}
        | shapes[int(rng.integers(len(shapes)))]
        for number in rng.permutation(images * OBJECTS).tolist()
    ]
    categories = [{"id": id, "name": name} for id, name in ((1, "person"), (2, "bicycle"), (3, "car"))]
    path.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": categories}))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--kinds", nargs="+", default=[n for n in outputs_of("masks") if not OUTPUTS[n].pixels])
    options = parser.parse_args()
    print("| kind |" + "".join(f" {images * OBJECTS:,} objects, s | MiB |" for images in options.images))
    print("| --- |" + " --- | --- |" * len(options.images))
    with tempfile.TemporaryDirectory() as folder:
        sources = [write_source(Path(folder) / f"{images}.json", images) for images in options.images]
        for kind in options.kinds:
            cells = [measure(source, Path(folder) / f"{kind}-{source.stem}", kind) for source in sources]
            print(f"| {kind} |" + "".join(f" {seconds:.1f} | {memory:.0f} |" for seconds, memory in cells), flush=True)


def measure(source: Path, output: Path, kind: str) -> tuple[float, float]:
    command = [sys.executable, "-c", MEASURED, "convert", source, "-o", output, "--to", kind, "--quiet"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, env=env)
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory)


if __name__ == "__main__":
    main()
