"""Scoring a data set of COCO's size: 5,000 images, 36,000 objects, 500,000 detections with masks."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest
from evaluation_cases import large, write
from runs import start


def score_large(folder: Path, images: int, objects: int, detections: int) -> tuple[float, float]:
    """Seconds and GiB that the command takes as a process of its own, from start to end, without the pictures."""
    truth, results = large(images, objects, detections)
    truth_path, results_path = write(folder, "truth.json", truth), write(folder, "results.json", results)
    begun = time.monotonic()
    process = start("evaluate", "coco", truth_path, "-o", folder / "out", "--results", results_path, "-q")
    _, err = process.communicate(timeout=280)
    seconds = time.monotonic() - begun
    assert process.returncode == 0, err
    metrics = json.loads((folder / "out" / "results" / "scores.json").read_text())["metrics"]
    assert set(metrics) == {"segm", "bbox", "class-agnostic"} and 0 < metrics["segm"]["AP"] < metrics["segm"]["AP50"]
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def test_scoring_a_small_part(tmp_path: Path) -> None:
    seconds, memory = score_large(tmp_path, 100, 720, 10_000)
    assert seconds < 60 and memory < 2


@pytest.mark.slow
def test_scoring_all_of_it(tmp_path: Path) -> None:
    """Needs a machine that does nothing else meanwhile."""
    seconds, memory = score_large(tmp_path, 5_000, 36_000, 500_000)
    print(f"{seconds:.1f} s, {memory:.2f} GiB")
    assert seconds < 30 and memory < 4
