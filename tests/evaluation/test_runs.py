"""A whole evaluation: every way of prompting against a plain loop, stamps, tables, report."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from reference import plain_evaluation as plain
from support.evaluation_cases import annotated_photographs, best, score
from support.runs import evsam
from support.scoring import pycocotools_stats

from pipelines import rle
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.evaluate import evaluate
from pipelines.sam import build_sam
from weights import digest, store


@pytest.fixture(scope="module")
def data(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotated_photographs(tmp_path_factory.mktemp("data"), photographs)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One command with everything, through the command line."""
    output = tmp_path_factory.mktemp("runs") / "eval"
    boxes = [{"image_id": 11, "category_id": 6, "bbox": [5, 75, 230, 140], "score": 0.9}]
    boxes += [{"image_id": 11, "category_id": 4, "bbox": [-20, 110, 90, 180], "score": 0.4}]
    boxes += [{"image_id": 22, "category_id": 4, "bbox": [150, 10, 130, 168], "score": 0.7}]
    boxes += [{"image_id": 22, "category_id": 4, "bbox": [400, 10, 50, 50], "score": 0.1}]  # outside the image
    (data / "vitdet.json").write_text(json.dumps(boxes))
    out, _ = evsam("evaluate", "coco", data / "truth.json", "--images", data / "images", "-o", output, "--gt-boxes",
                   "--clicks", "1,2", "--detector", "objects", "--max-det", 4, "--boxes", data / "vitdet.json",
                   "--boundary", "--device", "cpu", "--offline")  # fmt: skip
    assert all(name in out for name in ("gt-box", "clicks-1", "clicks-2", "objects", "vitdet", "mIoU all", "segm AP"))
    return output


def plain_masks(data: Path) -> dict[str, list[tuple[np.ndarray, dict]]]:
    """The published protocol in its own words: one prompt at a time, three masks, the one of the best predicted IoU."""
    truth = json.loads((data / "truth.json").read_text())
    sam = build_sam("evsam-starter", offline=True)
    found: dict[str, list[tuple[np.ndarray, dict]]] = {"gt-box": [], "clicks-1": [], "clicks-2": []}
    for image in truth["images"]:
        sam.set_image(np.asarray(Pil.open(data / "images" / image["file_name"]).convert("RGB")))
        for one in truth["annotations"]:
            if one["image_id"] != image["id"]:
                continue
            target = {**one, "mask": plain.decode(one["segmentation"], image["height"], image["width"])}
            x, y, w, h = one["bbox"]
            found["gt-box"].append((best(sam.predict(boxes=[[x, y, x + w, y + h]])), target))
            mask, clicks = np.zeros_like(target["mask"]), []
            for number in (1, 2):
                clicks.append(plain_click(mask, target["mask"], clicks))
                points = np.array([[click[:2] for click in clicks]], np.float32)
                mask = best(sam.predict(points=points, labels=np.array([[click[2] for click in clicks]])))
                found[f"clicks-{number}"].append((mask, target))
    return found


def plain_click(mask: np.ndarray, truth: np.ndarray, clicks: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """`plain.ritm_click` around the errors only: its loop over all pixels is slow."""
    ys, xs = np.nonzero(mask ^ truth)
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    window = np.s_[y0:y1, x0:x1]
    inside = [(x - x0, y - y0) for x, y, _ in clicks if x0 <= x < x1 and y0 <= y < y1]
    x, y, label = plain.ritm_click(mask[window], truth[window], inside)
    return x + int(x0), y + int(y0), label


def test_prompted_scores_equal_a_plain_loop(data: Path, run: Path) -> None:
    for name, pairs in plain_masks(data).items():
        metrics = score(run / f"{name}+evsam-starter")["metrics"]
        expected = plain.published_miou(pairs)
        assert {size: value for size, value in metrics["mIoU"].items() if value is not None} == pytest.approx(
            expected, abs=1e-9
        )
        assert metrics["mIoU"]["all"] > 20


@pytest.mark.parametrize(("name", "agnostic"), [("vitdet", False), ("objects", True)])
def test_ap_on_photographs_equals_plain_formulations(data: Path, run: Path, name: str, agnostic: bool) -> None:
    """Of masks that a SAM made: AP and AR as the plain loop counts them, and for classes as pycocotools does."""
    truth = json.loads((data / "truth.json").read_text())
    results = json.loads((run / f"{name}+evsam-starter" / "coco_results.json").read_text())
    metrics = score(run / f"{name}+evsam-starter")["metrics"]["segm"]
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    for one in [*truth["annotations"], *results]:
        one["mask"] = plain.decode(one["segmentation"], *sizes[one["image_id"]])
    for one in results:
        one["area"] = float(one["mask"].sum())
    limit = 1000 if agnostic else 100
    precision, recall, _ = plain.precisions(truth, results, "segm", limit=limit, agnostic=agnostic)
    assert metrics["AP"] == pytest.approx(plain.average(precision), abs=1e-9) and metrics["AP"] > 0
    assert metrics[f"AR{limit}"] == pytest.approx(plain.average(recall), abs=1e-9)
    if not agnostic:
        stats = [-1 if value is None else value for value in metrics.values()]
        assert stats == pytest.approx(pycocotools_stats(without_masks(truth), results, "segm"), abs=1e-12)


def without_masks(truth: dict) -> dict:
    return {**truth, "annotations": [{k: v for k, v in a.items() if k != "mask"} for a in truth["annotations"]]}


def test_boxes_of_a_file_are_all_used_as_they_are(data: Path, run: Path) -> None:
    results = json.loads((run / "vitdet+evsam-starter" / "coco_results.json").read_text())
    given = json.loads((data / "vitdet.json").read_text())
    assert [(r["image_id"], r["category_id"], r["bbox"], r["score"]) for r in results] == [
        (g["image_id"], g["category_id"], pytest.approx(g["bbox"]), pytest.approx(g["score"])) for g in given
    ]
    sam = build_sam("evsam-starter", offline=True)
    sam.set_image(np.asarray(Pil.open(data / "images" / "street.jpg").convert("RGB")))
    x, y, w, h = given[0]["bbox"]
    assert (rle.decode(results[0]["segmentation"]) == best(sam.predict(boxes=[[x, y, x + w, y + h]]))).all()


def test_a_detector_without_classes_is_scored_without_classes(run: Path) -> None:
    document = score(run / "objects+evsam-starter")
    assert document["stamp"]["classes"] == "taken as one"
    assert set(document["metrics"]["segm"]) >= {"AR10", "AR100", "AR1000"}
    assert "class-agnostic" not in document["metrics"]
    assert set(score(run / "vitdet+evsam-starter")["metrics"]) == {"segm", "bbox", "class-agnostic", "boundary"}


def test_every_score_is_stamped(data: Path, run: Path) -> None:
    for folder in sorted(run.glob("*+evsam-starter")):
        stamp = score(folder)["stamp"]
        assert stamp["protocol"]["name"] == "efficientvit-sam" and stamp["protocol"]["crowds"] is True
        assert stamp["data_set"]["sha256"] == digest.sha256(data / "truth.json")
        assert (stamp["data_set"]["images"], stamp["data_set"]["objects"]) == (3, 7)
        assert stamp["made_by"]["sam"]["sha256"] == digest.sha256(store.fetch("evsam-starter", offline=True))
        assert stamp["made_by"]["sam"]["precision"] == "fp32" and stamp["machine"]["device"] == "cpu"
        assert {"torch", "hotcoco", "evsam", "python"} <= set(stamp["versions"]) and stamp["seeds"]
        assert score(folder)["speed"]["images"] == 3 and score(folder)["speed"]["encode"] > 0
    objects, vitdet = (
        score(run / f"{name}+evsam-starter")["stamp"]["made_by"]["prompt"] for name in ("objects", "vitdet")
    )
    assert objects["sha256"] == digest.sha256(store.fetch("objects-starter", offline=True))
    assert vitdet["sha256"] == digest.sha256(data / "vitdet.json")


def test_tables(run: Path) -> None:
    rows = list(csv.DictReader((run / "matrix.csv").read_text().splitlines()))
    assert [row["prompt"] for row in rows] == ["gt-box", "clicks-1", "clicks-2", "objects (any class)", "vitdet"]
    by_prompt = {row["prompt"]: row for row in rows}
    for name in ("gt-box", "clicks-1"):
        value = score(run / f"{name}+evsam-starter")["metrics"]["mIoU"]["all"]
        assert float(by_prompt[name]["mIoU all"]) == pytest.approx(value, abs=1e-3)
    ap = score(run / "vitdet+evsam-starter")["metrics"]["segm"]["AP"]
    assert float(by_prompt["vitdet"]["segm AP"]) == pytest.approx(100 * ap, abs=1e-3)
    document = json.loads((run / "matrix.json").read_text())
    assert document[4]["metrics"]["segm"]["AP"] == ap
    tex = (run / "matrix.tex").read_text()
    assert tex.count(r"\\") == 6 and tex.count("&") == 6 * (len(rows[0]) - 1)


class Page(HTMLParser):
    """What a page is made of: tags, and every address it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_whole_file(run: Path) -> None:
    text = (run / "report.html").read_text("utf-8")
    page = Page(text)
    assert not page.open  # every tag is closed
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in page.addresses)
    assert "http" not in re.sub(r"http-equiv|data:image[^\"]*", "", text)
    assert page.tags["section"] == 5 and page.tags["svg"] >= 5 * 3 and page.tags["table"] >= 2
    pictures = [address for address in page.addresses if address.startswith("data:")]
    assert len(pictures) >= 3 * 4 and all(len(address) > 1000 for address in pictures)
    for words in (
        "What went wrong",
        "Objects by IoU",
        "By size",
        "By class",
        "Precision and recall",
        "efficientvit-sam",
        "6 of the 7 objects; left out: 1 crowd",
    ):
        assert words in text


def test_names_cannot_break_the_report(data: Path, tmp_path: Path) -> None:
    truth = json.loads((data / "truth.json").read_text())
    truth["categories"][0]["name"] = '<script>alert("&")</script>'
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    results = [{"image_id": 11, "category_id": 4, "score": 1, "segmentation": truth["annotations"][1]["segmentation"]}]
    (tmp_path / "<b>.json").write_text(json.dumps(results))
    evaluate(
        EvaluationConfig(tmp_path / "truth.json", tmp_path / "out", data / "images", results=(tmp_path / "<b>.json",))
    )
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text and "<b>.json" not in text
    assert not Page(text).open


def test_a_results_file_scores_as_the_run_that_wrote_it(data: Path, run: Path, tmp_path: Path) -> None:
    results = run / "vitdet+evsam-starter" / "coco_results.json"
    evsam("evaluate", "coco", data / "truth.json", "-o", tmp_path / "out", "--results", results, "--boundary", "-q")
    again = score(tmp_path / "out" / "vitdet+evsam-starter")
    assert again["metrics"] == score(run / "vitdet+evsam-starter")["metrics"]
    assert again["stamp"]["made_by"] == {"results": "coco_results.json", "sha256": digest.sha256(results)}
    assert (tmp_path / "out" / "report.html").is_file()
