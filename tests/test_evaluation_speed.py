"""Scoring a data set of COCO's size: 5,000 images, 36,000 objects, 500,000 detections with masks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from evaluation_cases import large, write
from runs import environment

LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "evsam_cli", *sys.argv[1:]], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
raise SystemExit(code)
"""
"""Runs evsam and prints its peak memory in KiB: pytest's own is inherited by, and counted for, whatever it starts."""


def score_large(folder: Path, images: int, objects: int, detections: int) -> tuple[float, float]:
    """Seconds and GiB that the command takes as a process of its own, from start to end, without the pictures."""
    truth, results = large(images, objects, detections)
    truth_path, results_path = write(folder, "truth.json", truth), write(folder, "results.json", results)
    begun = time.monotonic()
    arguments = ("evaluate", "coco", truth_path, "-o", folder / "out", "--results", results_path, "-q")
    command = [sys.executable, "-c", LAUNCHER, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment())
    seconds = time.monotonic() - begun
    assert process.returncode == 0, process.stderr
    metrics = json.loads((folder / "out" / "results" / "scores.json").read_text())["metrics"]
    assert set(metrics) == {"segm", "bbox", "class-agnostic"} and 0 < metrics["segm"]["AP"] < metrics["segm"]["AP50"]
    return seconds, int(process.stdout) / 2**20


def test_scoring_a_small_part(tmp_path: Path) -> None:
    seconds, memory = score_large(tmp_path, 100, 720, 10_000)
    assert seconds < 60 and memory < 2


@pytest.mark.slow
def test_scoring_all_of_it(tmp_path: Path) -> None:
    """Needs a machine that does nothing else meanwhile."""
    seconds, memory = score_large(tmp_path, 5_000, 36_000, 500_000)
    print(f"{seconds:.1f} s, {memory:.2f} GiB")
    assert seconds < 30 and memory < 4
