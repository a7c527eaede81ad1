"""The other data sets: Segmentation in the Wild, salient objects, BSDS500, LVIS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from scipy.io import savemat
from support.evaluation_cases import annotated_photographs, best, crafted, ellipse, load_image, perfect_results, score
from support.runs import evsam

from pipelines.sam import build_sam


@pytest.fixture(scope="module")
def data(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotated_photographs(tmp_path_factory.mktemp("data"), photographs)


def test_segmentation_in_the_wild(data: Path, tmp_path: Path) -> None:
    """Sets in the benchmark's own layout and in ours; the mean is the plain mean of their AP."""
    wild = tmp_path / "seginw"
    for name in ("Elephants", "mine"):
        folder = wild / name / ("valid" if name == "Elephants" else "")
        folder.mkdir(parents=True)
        images = folder if name == "Elephants" else folder / "images"
        images.mkdir(exist_ok=True)
        for path in (data / "images").iterdir():
            (images / path.name).write_bytes(path.read_bytes())
        file = "_annotations_min1cat.coco.json" if name == "Elephants" else "annotations.json"
        (folder / file).write_text((data / "truth.json").read_text())
    command = (
        "evaluate",
        "sginw",
        wild,
        "-o",
        tmp_path / "out",
        "-d",
        "objects",
        "--max-det",
        4,
        "--offline",
        "--no-report",
    )
    out, err = evsam(*command)
    (table,) = json.loads((tmp_path / "out" / "sginw.json").read_text())
    aps = [
        score(tmp_path / "out" / name / "objects+evsam-starter")["metrics"]["segm"]["AP"]
        for name in ("Elephants", "mine")
    ]
    assert list(table["ap"].values()) == aps and table["mean"] == pytest.approx(np.mean(aps))
    assert len(table["missing_sets"]) == 24 and "24 of the benchmark's sets" in err
    assert "mean" in out and "Elephants" in out
    assert (tmp_path / "out" / "sginw.tex").read_text().count(r"\\") == 4
    out, _ = evsam(*command, "--resume", "--json")
    assert json.loads(out)[0]["ap"] == table["ap"]
    _, err = evsam("evaluate", "sginw", data, "-o", tmp_path / "none", "--detector", "objects", code=2)
    assert "holds no data set" in err


def test_saliency(data: Path, tmp_path: Path) -> None:
    masks, maps = tmp_path / "masks", tmp_path / "maps"
    masks.mkdir(), maps.mkdir()
    shapes = {"street": ellipse(320, 240, 120, 145, 115, 70), "game": ellipse(180, 320, 215, 100, 62, 85)}
    for name, shape in shapes.items():
        Pil.fromarray(shape.astype(np.uint8) * 255).save(masks / f"{name}.png")
        Pil.fromarray((shape * 204).astype(np.uint8)).save(maps / f"{name}.png")
    out, _ = evsam("evaluate", "saliency", masks, "--maps", maps, "-o", tmp_path / "out")
    document = json.loads((tmp_path / "out" / "saliency.json").read_text())
    expected = np.mean([0.2 * shape.mean() for shape in shapes.values()])
    assert document["metrics"]["MAE"] == pytest.approx(expected, abs=1e-12) and f"MAE: {expected:.4f}" in out
    out, _ = evsam("evaluate", "saliency", masks, "--images", data / "images", "-o", tmp_path / "run", "--offline")
    error = json.loads((tmp_path / "run" / "saliency.json").read_text())["MAE"]["gt-box+evsam-starter"]
    sam = build_sam("evsam-starter", offline=True)
    wrong = []
    for name, shape in shapes.items():
        sam.set_image(load_image(data, f"{name}.jpg").pixels)
        ys, xs = np.nonzero(shape)
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        wrong.append((best(sam.predict(boxes=[box])) ^ shape).mean())
    assert error == pytest.approx(np.mean(wrong), abs=1e-12) and f"MAE: {error:.4f}" in out
    assert (tmp_path / "run" / "report.html").is_file()
    (maps / "game.png").unlink()
    _, err = evsam("evaluate", "saliency", masks, "--maps", maps, code=2)
    assert "no map for the mask game.png" in err
    _, err = evsam("evaluate", "saliency", masks, code=2)
    assert "--maps" in err and "--images" in err


def test_bsds_through_the_command_line(tmp_path: Path) -> None:
    truth, edges = tmp_path / "truth", tmp_path / "edges"
    truth.mkdir(), edges.mkdir()
    line = np.zeros((40, 60), np.uint8)
    line[20, 5:55] = 1
    cells = np.empty((1, 2), object)
    cells[0, 0] = cells[0, 1] = {"Segmentation": line.astype(np.uint16), "Boundaries": line}
    savemat(truth / "7.mat", {"groundTruth": cells})
    Pil.fromarray(line * 255).save(edges / "7.png")
    out, _ = evsam("evaluate", "bsds", truth, "--edges", edges, "-o", tmp_path / "out")
    assert "ODS: 1.0000" in out
    document = json.loads((tmp_path / "out" / "bsds.json").read_text())
    assert document["metrics"]["OIS"] == pytest.approx(1) and document["stamp"]["protocol"]["tolerance"] == 0.0075
    assert len(document["curve"]["recall"]) == 99
    out, _ = evsam("evaluate", "bsds", truth, "--human")
    assert "F: 1.0000" in out
    _, err = evsam("evaluate", "bsds", truth, code=2)
    assert "--edges" in err


def test_lvis_is_for_lvis(data: Path, tmp_path: Path) -> None:
    _, err = evsam("evaluate", "lvis", data / "truth.json", "-o", tmp_path / "out", "--results", "x.json", code=2)
    assert "no neg_category_ids" in err
    truth = crafted()
    truth["annotations"] = [one for one in truth["annotations"] if not one["iscrowd"]]
    (tmp_path / "lvis.json").write_text(json.dumps(truth))
    (tmp_path / "perfect.json").write_text(json.dumps(perfect_results(truth)))
    command = (
        "evaluate",
        "lvis",
        tmp_path / "lvis.json",
        "-o",
        tmp_path / "out",
        "--results",
        tmp_path / "perfect.json",
    )
    out, _ = evsam(*command)
    assert "segm APr" in out
    document = score(tmp_path / "out" / "perfect")
    assert document["stamp"]["data_set"]["kind"] == "lvis"
    assert [document["metrics"]["segm"][name] for name in ("AP", "APr", "APc", "APf", "AR300")] == pytest.approx(
        [1] * 5
    )
