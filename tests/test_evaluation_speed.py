"""Scoring a data set of COCO's size, 5,000 images, 36,000 objects, 500,000 detections with masks, and a part of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluation_cases import large, write
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from runs import evsam, run_apart

PEAK = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "evsam_cli", *sys.argv[1:]], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
raise SystemExit(code)
"""
"""Runs evsam and prints its peak memory in KiB: pytest's own is inherited by, and counted for, whatever it starts."""


def work(score: Callable[[], object]) -> float:
    """Seconds of computing, which other processes do not prolong."""
    begun = time.process_time()
    score()
    return time.process_time() - begun


def score_large(folder: Path, images: int, objects: int, detections: int) -> tuple[float, float, float]:
    """The command's work without the pictures, and pycocotools' for masks and boxes, in seconds; the command's GiB."""
    truth, results = large(images, objects, detections)
    truth_path, results_path = write(folder, "truth.json", truth), write(folder, "results.json", results)
    command = ("evaluate", "coco", truth_path, "-o", folder / "out", "--results", results_path, "-q", "--overwrite")

    def pycocotools() -> None:
        theirs = COCO(truth_path)
        for kind in ("segm", "bbox"):
            evaluation = COCOeval(theirs, theirs.loadRes(str(results_path)), kind)
            evaluation.evaluate()
            evaluation.accumulate()

    _, ours, theirs = work(lambda: evsam(*command)), work(lambda: evsam(*command)), work(pycocotools)
    metrics = json.loads((folder / "out" / "results" / "scores.json").read_text())["metrics"]
    assert set(metrics) == {"segm", "bbox", "class-agnostic"} and 0 < metrics["segm"]["AP"] < metrics["segm"]["AP50"]
    done = run_apart(*command, python=("-c", PEAK))
    assert done.returncode == 0, done.stderr
    return ours, theirs, int(done.stdout) / 2**20


def test_scoring_a_small_part(tmp_path: Path) -> None:
    ours, theirs, memory = score_large(tmp_path, 100, 720, 10_000)
    assert 2 * ours < theirs and memory < 2


@pytest.mark.slow
def test_scoring_all_of_it(tmp_path: Path) -> None:
    ours, theirs, memory = score_large(tmp_path, 5_000, 36_000, 500_000)
    print(f"{ours:.1f} s, pycocotools {theirs:.1f} s, {memory:.2f} GiB")
    assert 2 * ours < theirs and memory < 4
