"""Memory of scoring a data set of COCO's size, 5,000 images, 36,000 objects, 500,000 detections with masks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.evaluation_cases import large, write
from support.runs import run_apart

PEAK = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "evsam_cli", *sys.argv[1:]], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
raise SystemExit(code)
"""
"""Runs evsam and prints its peak memory in KiB: pytest's own is inherited by, and counted for, whatever it starts."""


def peak_memory(folder: Path, images: int, objects: int, detections: int) -> float:
    """GiB of the command that scores so many; its scores are those of a data set where half the detections fit."""
    truth, results = large(images, objects, detections)
    truth_path, results_path = write(folder, "truth.json", truth), write(folder, "results.json", results)
    command = ("evaluate", "coco", truth_path, "-o", folder / "out", "--results", results_path, "-q")
    done = run_apart(*command, python=("-c", PEAK))
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "out" / "results" / "scores.json").read_text())["metrics"]
    assert set(metrics) == {"segm", "bbox", "class-agnostic"} and 0 < metrics["segm"]["AP"] < metrics["segm"]["AP50"]
    return int(done.stdout) / 2**20


def test_memory_of_scoring_a_small_part(tmp_path: Path) -> None:
    assert peak_memory(tmp_path, 100, 720, 10_000) < 2


@pytest.mark.slow
def test_memory_of_scoring_all_of_it(tmp_path: Path) -> None:
    assert peak_memory(tmp_path, 5_000, 36_000, 500_000) < 4
