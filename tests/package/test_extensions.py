"""What CONTRIBUTING.md promises: a row and a file, also a user's own, make a SAM, a detector and an output."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from safetensors.torch import save_file
from support import extensions
from support.runs import run_apart
from support.seeded import weights_for

from pipelines.errors import WeightsError
from pipelines.registry import Registry
from pipelines.rle import decode
from pipelines.sam import SamConfig, SamRow

ROOMS = ("evsam_cli", "pipelines", "weights")
ROOT = Path(__file__).parents[2]
SCRIPT = (extensions.__file__,)
OWN = ("--sam", "one-layer", "--detector", "bright", "--device", "cpu")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "one.safetensors"
    save_file(weights_for(extensions.OneLayer(256).build()), path)
    return path


def test_a_script_brings_a_sam_a_detector_and_an_output(
    photographs: list[Path], checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_apart(
        "segment",
        photographs[0],
        "-o",
        out,
        *OWN,
        "--weights",
        checkpoint,
        "--save",
        "coco,areas",
        "--max-det",
        9,
        python=SCRIPT,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {".evsam", "run.json", "coco_results.json", "areas"}

    results = json.loads((out / "coco_results.json").read_text())
    pixels = np.asarray(Pil.open(photographs[0]).convert("RGB")).min(axis=2)
    assert len(results) == 5
    for found in results:
        x, y, width, height = map(int, found["bbox"])
        inside = pixels[y : y + height, x : x + width] >= 200
        assert inside.any(axis=0).all() and inside.any(axis=1).all() and found["score"] >= 0.5

    areas = [int(decode(found["segmentation"]).sum()) for found in results]
    assert [int(line) for line in (out / "areas/bus.txt").read_text().splitlines()] == areas

    info = json.loads((out / "run.json").read_text())
    assert info["settings"]["sam"] == "one-layer" and info["settings"]["prompts"]["model"] == "bright"
    assert info["defaults"]["conf"] == "0.5, the own value of bright"
    assert info["categories"] == {"1": "bright"}


def test_a_script_brings_a_strategy(photographs: list[Path], tmp_path: Path) -> None:
    command = ("everything", photographs[1], "-o", tmp_path / "out", "--prompts", "tiles", "--points-per-side", 3)
    done = run_apart(*command, "--save", "coco,areas", "--device", "cpu", python=SCRIPT)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out/coco_results.json").read_text())
    assert sorted(found["bbox"][:2] for found in results) == [
        [x, y] for x in (0, 426.667, 853.333) for y in (0, 240, 480)
    ]
    assert len((tmp_path / "out/areas/zidane.txt").read_text().splitlines()) == 9
    prompts = json.loads((tmp_path / "out/run.json").read_text())["settings"]["prompts"]
    assert prompts == {"kind": "tiles", "points_per_side": 3}


def test_help_offers_them() -> None:
    text = " ".join(run_apart("segment", "--help", python=SCRIPT).stdout.split())
    assert all(re.search(rf"[ ,]{name}[.,:;]", text) for name in ("one-layer", "bright", "areas"))


def test_a_sam_without_weights_of_its_own_asks_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    row = SamRow("one-layer", f"{extensions.__name__}:OneLayer", "", options={"input_size": 256})
    monkeypatch.setattr("pipelines.sam.SAMS", Registry("SAM", [row]))
    with pytest.raises(WeightsError, match=r"^one-layer has no weights of its own: name a checkpoint with --weights$"):
        SamConfig("one-layer").check()


def test_the_recipes_name_what_is_there() -> None:
    """Files, classes and tables."""
    quoted = set(re.findall(r"`([^`\n]+)`", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))) - {"None"}
    code = "\n".join(path.read_text("utf-8") for room in ROOMS for path in (ROOT / room).rglob("*.py"))

    files = {name for name in quoted if re.fullmatch(r"[\w./]+\.(py|md|toml|webp|gz)", name)}
    own = {name for name in files if "NAME" in name or "FAMILY" in name}
    there = [f"/{path.as_posix()}" for room in (*ROOMS, "tests", "docs") for path in (ROOT / room).rglob("*.*")]
    assert len(files) > 20 and not [
        name for name in files - own if not any(path.endswith(f"/{name}") for path in there)
    ]

    classes = {name for name in quoted if re.fullmatch("[A-Z][a-z]+[A-Za-z]*", name)}
    assert len(classes) > 10 and classes == {name for name in classes if f"\nclass {name}" in code}

    tables = {name for name in quoted if re.fullmatch("[A-Z_]{4,}", name)}
    assert tables == set(re.findall(r"^(\w+) = Registry\(", code, re.MULTILINE)) - {"BACKENDS"}
