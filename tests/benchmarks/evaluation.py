"""Scoring masks and boxes with evsam and with pycocotools: `python -m benchmarks.evaluation [--images N]`.

A data set of COCO's shape: for each image 7 objects and 100 detections with masks, 640 x 480. In turn on the same
files, the report without pictures; evsam also scores the masks class-agnostic, pycocotools only masks and boxes.
Seconds are of the processor, which other work on the machine disturbs least; a ratio of each round is printed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support.evaluation_cases import large, write
from typer.testing import CliRunner

from evsam_cli.main import app
from pipelines import run_info


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def pycocotools(truth_path: Path, results_path: Path) -> None:
    truth = COCO(truth_path)
    for kind in ("segm", "bbox"):
        evaluation = COCOeval(truth, truth.loadRes(str(results_path)), kind)
        evaluation.evaluate()
        evaluation.accumulate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        truth, results = large(options.images, 36 * options.images // 5, 100 * options.images)
        truth_path, results_path = write(folder, "truth.json", truth), write(folder, "results.json", results)
        command = ["evaluate", "coco", str(truth_path), "-o", str(folder / "out"), "--results", str(results_path)]

        def evsam() -> None:
            done = CliRunner().invoke(app, [*command, "-q", "--overwrite"])
            assert done.exit_code == 0, done.output

        evsam()  # its imports
        pairs = [
            (seconds(evsam), seconds(lambda: pycocotools(truth_path, results_path))) for _ in range(options.rounds)
        ]
    print(f"{run_info.machine('cpu')['processor']}, Python {platform.python_version()}, {options.images} images")
    for ours, theirs in pairs:
        print(f"evsam {ours:.2f} s  pycocotools {theirs:.2f} s  {theirs / ours:.2f} times")
    print(f"median {statistics.median(theirs / ours for ours, theirs in pairs):.2f} times")


if __name__ == "__main__":
    main()
