"""Seconds of the processor and peak memory of `evsam convert`, a process a kind: `python -m benchmarks.convert`.

The source is a COCO file of N images of 640 x 480 with nine objects each: ellipses with a hole, as RLE, and as every
third a second part; its annotations are shuffled, as COCO's are, and its photos are black. What a kind has written is
then read and converted to jsonl, where evsam reads it.
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
from PIL import Image as Pil

from pipelines import rle
from pipelines.labels import LABELS
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


def write_source(folder: Path, images: int) -> Path:
    (folder / "photos").mkdir(parents=True)
    Pil.new("RGB", (WIDTH, HEIGHT)).save(folder / "black.jpg")
    for number in range(1, images + 1):
        os.link(folder / "black.jpg", folder / f"photos/{number:06}.jpg")
    shapes, rng = masks(300), np.random.default_rng(images)
    listed = [{"id": i, "file_name": f"{i:06}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(1, images + 1)]
    annotations = [
        {"id": number, "image_id": int(number % images) + 1, "category_id": 1 + int(number % 3), "iscrowd": 0}
        | shapes[int(rng.integers(len(shapes)))]
        for number in rng.permutation(images * OBJECTS).tolist()
    ]
    categories = [{"id": id, "name": name} for id, name in ((1, "person"), (2, "bicycle"), (3, "car"))]
    path = folder / f"{images}.json"
    path.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": categories}))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--kinds", nargs="+", default=outputs_of("masks"))
    options = parser.parse_args()
    columns = [f" {images * OBJECTS:,} objects: to it, s | MiB | from it, s | MiB |" for images in options.images]
    print("| kind |" + "".join(columns))
    print("| --- |" + " --- |" * 4 * len(options.images))
    for kind in options.kinds:
        cells = [cell for images in options.images for cell in to_and_from(kind, images)]
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


def to_and_from(kind: str, images: int) -> list[str]:
    """Seconds and MiB of the way to a kind, and of the way back."""
    with tempfile.TemporaryDirectory() as folder:
        source, output, row = write_source(Path(folder) / "in", images), Path(folder) / "out", OUTPUTS[kind]
        cells = measure(source, output, "--to", kind)
        if row.labels is None or kind == "boxes":  # which do not say how large images are
            return [*cells, "-", "-"]
        written = next(
            file for file in row.files if (output / file).is_dir() or file.endswith(LABELS[row.labels].suffixes)
        )
        return cells + measure(output / written, Path(folder) / "back", "--to", "jsonl", "--from", row.labels)


def measure(source: Path, output: Path, *options: str) -> list[str]:
    command = [sys.executable, "-c", MEASURED, "convert", source, "-o", output, *options, "--quiet"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, env=env)
    seconds, memory = done.stdout.split()[-2:]
    return [f"{float(seconds):.1f}", f"{float(memory):.0f}"]


if __name__ == "__main__":
    main()
