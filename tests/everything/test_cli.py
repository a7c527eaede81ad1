"""`evsam everything` as users run it: the files that amg.py's users know, resume, shards, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from pycocotools import mask as coco_mask
from support.runs import evsam, final_files, journal_of

from evsam_cli.everything import configure
from pipelines import rle
from pipelines.errors import UsageError
from pipelines.everything.config import EdgesConfig, GridConfig, HierarchicalConfig, ObjectsConfig
from pipelines.sam import SAMS, SamRow

FEW = ("--points-per-side", "2", "--pred-iou-thresh", "0", "--stability-score-thresh", "0.2", "--device", "cpu")
AMG_HEADER = (
    "id,area,bbox_x0,bbox_y0,bbox_w,bbox_h,point_input_x,point_input_y,predicted_iou,stability_score,"
    "crop_box_x0,crop_box_y0,crop_box_w,crop_box_h"
)


@pytest.fixture(scope="module")
def folder(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs of the same stem, an icon, a blank and a broken image."""
    folder = tmp_path_factory.mktemp("photos")
    Pil.open(photographs[1]).resize((160, 90)).save(folder / "a.jpg")
    Pil.open(photographs[0]).resize((90, 120)).save(folder / "a.png")
    Pil.open(photographs[0]).crop((100, 300, 300, 500)).resize((64, 64)).save(folder / "icon.png")
    Pil.new("RGB", (80, 60), (30, 90, 200)).save(folder / "blank.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("everything") / "out"
    save = "coco,amg,amg-rle,sa1b,jsonl,ids"
    evsam("everything", folder, "-o", out, *FEW, "--save", save, "--flatten", "score", code=1)
    return out


def records(run: Path) -> dict[str, dict]:
    return {
        record["name"]: record for record in map(json.loads, (run / "records.jsonl").read_text("utf-8").splitlines())
    }


def test_every_image_is_accounted_for(run: Path) -> None:
    status = {name: record["status"] for name, record in records(run).items()}
    assert status == {
        "a.jpg": "done",
        "a.png": "done",
        "blank.png": "empty",
        "broken.png": "failed",
        "icon.png": "done",
    }
    for record in records(run).values():
        for row in record["instances"]:
            assert {"point", "crop_box", "predicted_iou", "stability_score"} <= set(row)
            assert row["score"] == row["predicted_iou"]
            assert row["crop_box"] == [0, 0, record["width"], record["height"]]


def test_pictures_and_metadata_as_amg_writes_them(run: Path) -> None:
    for name, record in records(run).items():
        stem = name if Path(name).stem == "a" else Path(name).stem  # two share it
        if record["status"] == "failed":
            assert not (run / "amg" / stem).exists()
            continue
        text = (run / "amg" / stem / "metadata.csv").read_text()
        assert text.splitlines()[0] == AMG_HEADER
        rows = list(csv.DictReader(text.splitlines()))
        assert len(rows) == len(record["instances"]) == len(list((run / "amg" / stem).glob("*.png")))
        for i, (row, instance) in enumerate(zip(rows, record["instances"], strict=True)):
            mask = np.asarray(Pil.open(run / "amg" / stem / f"{i}.png"))
            assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
            y, x = np.nonzero(mask)
            values = {key: float(value) for key, value in row.items()}
            assert values == {
                "id": i,
                "area": len(x),
                "bbox_x0": x.min(),
                "bbox_y0": y.min(),
                "bbox_w": x.max() - x.min(),
                "bbox_h": y.max() - y.min(),
                "point_input_x": instance["point"][0],
                "point_input_y": instance["point"][1],
                "predicted_iou": instance["predicted_iou"],
                "stability_score": instance["stability_score"],
                "crop_box_x0": 0,
                "crop_box_y0": 0,
                "crop_box_w": record["width"],
                "crop_box_h": record["height"],
            }


def test_rles_as_amg_and_sa1b_write_them(run: Path) -> None:
    numbers = []
    for name, record in records(run).items():
        stem = name if Path(name).stem == "a" else Path(name).stem  # two share it
        path = run / "sa1b" / f"{stem}.json"
        assert path.exists() == (record["status"] != "failed")
        if record["status"] == "failed":
            continue
        content = json.loads(path.read_text())
        assert content["image"] == {
            "image_id": record["image_id"],
            "width": record["width"],
            "height": record["height"],
            "file_name": name,
        }
        numbers += [annotation.pop("id") for annotation in content["annotations"]]
        entries = json.loads((run / "amg_rle" / f"{stem}.json").read_text())
        assert entries == content["annotations"]
        for entry, instance in zip(entries, record["instances"], strict=True):
            assert set(entry) == {
                "segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box"
            }  # fmt: skip
            mask = coco_mask.decode(entry["segmentation"])
            y, x = np.nonzero(mask)
            assert entry["area"] == len(x) and entry["point_coords"] == [instance["point"]]
            assert entry["bbox"] == [x.min(), y.min(), x.max() - x.min(), y.max() - y.min()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_one_id_per_pixel_in_cocos_panoptic_format(run: Path) -> None:
    content = json.loads((run / "panoptic.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "object", "isthing": 1}]
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "a.png", "blank.png", "icon.png"]
    found = records(run)
    for image, entry in zip(content["images"], content["annotations"], strict=True):
        assert entry["image_id"] == image["id"]
        colours = np.asarray(Pil.open(run / "panoptic" / entry["file_name"])).astype(int)
        ids = colours @ [1, 256, 65536]
        assert ids.shape == (image["height"], image["width"])
        assert {segment["id"] for segment in entry["segments_info"]} == set(np.unique(ids)) - {0}
        instances = found[image["file_name"]]["instances"]
        best = np.zeros(ids.shape, int)
        for i in sorted(range(len(instances)), key=lambda i: instances[i]["predicted_iou"]):
            best[rle.decode(instances[i]["segmentation"])] = i + 1
        changed = (ids != best).sum()
        assert entry["islands_removed"] <= changed <= entry["islands_removed"] + entry["holes_filled"]
        for segment in entry["segments_info"]:
            y, x = np.nonzero(ids == segment["id"])
            assert segment["area"] == len(x) and segment["category_id"] == 1 and segment["iscrowd"] == 0
            assert segment["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]


def test_shards_and_resumed_runs_equal_the_whole(run: Path, folder: Path, tmp_path: Path) -> None:
    options = (*FEW, "--save", "coco,amg,amg-rle,sa1b,jsonl,ids", "--flatten", "score")
    for i in (1, 2):
        evsam("everything", folder, "-o", tmp_path / f"part{i}", *options, "--shard", f"{i}/2", "-q", code=i - 1)
    evsam("merge", tmp_path / "part1", tmp_path / "part2", "-o", tmp_path / "all", code=1)
    assert final_files(tmp_path / "all") == final_files(run)

    journal = journal_of(tmp_path / "all")
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    (tmp_path / "all/sa1b/a.jpg.json").unlink()
    evsam("everything", folder, "-o", tmp_path / "all", *options, "--resume", code=1)
    assert final_files(tmp_path / "all") == final_files(run)
    _, err = evsam("everything", folder, "-o", tmp_path / "all", "--resume", "--points-per-side", "3", code=2)
    assert "points_per_side" in err


def test_objects_and_edges_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    quick = ("--imgsz", "96", "--conf", "0.01", "--max-det", "3")
    evsam(
        "everything", folder / "a.jpg", "-o", tmp_path / "objects", "--prompts", "objects", *quick, "--save", "amg-rle"
    )
    entries = json.loads((tmp_path / "objects/amg_rle/a.json").read_text())
    assert 0 < len(entries) <= 3
    assert all(entry["point_coords"] == [] and entry["crop_box"] == [0, 0, 160, 90] for entry in entries)

    few = ("--prompts", "edges", "--points-per-side", "2", "--save", "coco")
    evsam("everything", folder / "a.jpg", folder / "blank.png", "-o", tmp_path / "edges", *few)
    edges = np.asarray(Pil.open(tmp_path / "edges/edges/a.png"))
    assert edges.shape == (90, 160) and edges.dtype == np.uint8 and edges.max() == 255
    assert not np.asarray(Pil.open(tmp_path / "edges/edges/blank.png")).any()


def test_values_come_from_the_options_then_the_preset_then_the_model_then_the_strategy() -> None:
    plain = SAMS["efficientvit-sam-l0"]
    own = SamRow("own", "a:b", "", strategy="objects", everything={"pred_iou_thresh": 0.3})
    assert configure("grid", "sam", {"points_per_side": None}, own) == GridConfig()
    assert configure("grid", None, {"points_per_side": 4}, own) == GridConfig(4, pred_iou_thresh=0.3)
    assert configure("grid", None, {"pred_iou_thresh": 0.5}, own) == GridConfig(pred_iou_thresh=0.5)
    assert configure("edges", "sam", {}, plain) == configure("edges", None, {}, own) == EdgesConfig()
    assert configure("hierarchical", "efficientvit", {"pred_iou_thresh": 0.9}, own) == HierarchicalConfig(
        pred_iou_thresh=0.9, stability_score_thresh=0.85, min_mask_region_area=100
    )
    assert configure("objects", "sam", {"model": "yolov8n"}, plain) == ObjectsConfig("yolov8n")
    tinysam = HierarchicalConfig(second_pass="around")
    assert configure("hierarchical", "tinysam", {}, own) == configure(None, "tinysam", {}, plain) == tinysam


def test_the_strategy_is_the_models_own_unless_a_value_is_given_that_only_the_grid_uses() -> None:
    plain = SAMS["efficientvit-sam-l0"]
    own = SamRow("own", "a:b", "", strategy="objects")
    assert configure(None, None, {}, plain) == GridConfig()
    assert configure(None, None, {"conf": 0.2}, own) == ObjectsConfig(conf=0.2)
    assert configure(None, None, {"points_per_side": 4}, own) == GridConfig(4)
    assert configure(None, "sam", {}, own) == GridConfig()
    with pytest.raises(UsageError, match="--prompts grid has no use for --conf"):
        configure(None, None, {"conf": 0.2, "points_per_side": 4}, own)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--prompts", "psychic"), "hierarchical"),
        (("--preset", "mine"), "efficientvit"),
        (("--preset", "tinysam", "--second-pass", "twice"), "grid, around"),
        (("--flatten", "colour"), "area, score"),
        (("--prompts", "objects", "--points-per-side", "8"), "no use for --points-per-side"),
        (("--prompts", "objects", "--preset", "efficientvit"), "no use for --pred-iou-thresh"),
        (("--prompts", "grid", "--preset", "tinysam"), "--second-pass, which --preset tinysam sets"),
        (("--sam", "efficientvit-sam-l0", "--conf", "0.5"), "no use for --conf"),
        (("--prompts", "grid", "--detector", "yolov8n"), "no use for --detector"),
        (("--pred-iou-thresh", "88"), "from 0 to 1"),
        (("--save", "edges"), "--prompts edges"),
        (("--prompts", "objects", "--detector", "yolov8x"), "evsam weights pull yolov8x"),
    ],
)
def test_what_cannot_be_right_is_one_line(arguments: tuple[str, ...], hint: str, folder: Path, tmp_path: Path) -> None:
    _, err = evsam("everything", folder, "-o", tmp_path / "out", *arguments, code=2)
    assert hint in err and len(err.strip().splitlines()) == 1


def test_edges_cannot_be_saved_by_other_verbs(folder: Path, tmp_path: Path) -> None:
    _, err = evsam("segment", folder / "a.jpg", "-o", tmp_path / "out", "--box", "1,1,50,50", "--save", "edges", code=2)
    assert "evsam everything --prompts edges" in err
