"""Whole evaluations: every way of prompting against a plain loop, resume, tables, report, other data sets."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plain_evaluation as plain
import pytest
from evaluation_cases import annotated_photographs, crafted, ellipse, perfect_results
from PIL import Image as Pil
from runs import evsam
from scipy.io import savemat
from test_evaluation_detection import pycocotools_stats

from pipelines import rle
from pipelines.detectors import DetectorConfig
from pipelines.detectors.text import Pass
from pipelines.errors import DataError, UsageError
from pipelines.evaluation import runner
from pipelines.evaluation.annotations import read_ground_truth
from pipelines.evaluation.box_prompts import FileOfBoxes
from pipelines.evaluation.evaluate import EvaluationConfig, evaluate
from pipelines.evaluation.prompts import NamedClasses, SimulatedClicks, TruthBoxes, build_prompter
from pipelines.evaluation.text_prompts import CategoryDetector, phrase_of
from pipelines.images import load
from pipelines.records import Record
from pipelines.run import Silent
from pipelines.sam import SAMS, build_sam
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Category, Detections, Image
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


def score(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text())


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


def best(answer: object) -> np.ndarray:
    return answer.masks[0, answer.predicted_iou[0].argmax()]


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


class Stop(Silent):
    """Ctrl-C after so many images."""

    def __init__(self, after: int) -> None:
        self.left = after

    def recorded(self, record: Record) -> None:
        self.left -= 1
        if not self.left:
            raise SystemExit(130)


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often images are decoded and encoded; the work itself is done."""
    counts: Counter[str] = Counter()
    encode = SamPredictor.set_image

    def counted_load(*arguments: object, **options: object) -> Image:
        counts["load"] += 1
        return load(*arguments, **options)

    def counted_encode(sam: SamPredictor, rgb: np.ndarray) -> None:
        counts[sam.name] += 1
        encode(sam, rgb)

    monkeypatch.setattr(runner, "load", counted_load)
    monkeypatch.setattr(SamPredictor, "set_image", counted_encode)
    yield counts


def test_resume_and_grow(data: Path, tmp_path: Path, spies: Counter[str]) -> None:
    """A stopped run goes on where it was and ends as one that was not; new rows leave the old alone."""
    base = EvaluationConfig(
        data / "truth.json", tmp_path / "whole", data / "images", prompts=(TruthBoxes(),), report=False
    )
    both = (TruthBoxes(), DetectorConfig("objects", conf=0.01, max_det=3))
    whole = evaluate(EvaluationConfig(**{**vars(base), "prompts": both}))
    assert spies["load"] == 3 and spies["evsam-starter"] <= 3  # once per image, however many prompts

    spies.clear()
    part = EvaluationConfig(**{**vars(base), "output": tmp_path / "part"})
    with pytest.raises(SystemExit):
        evaluate(part, Stop(1))
    with pytest.raises(UsageError, match="--resume"):
        evaluate(part)
    first = spies["load"]
    resumed = EvaluationConfig(**{**vars(part), "resume": True})
    evaluate(resumed)
    assert spies["load"] - first < 3  # what was finished is not done again
    spies.clear()
    grown = evaluate(EvaluationConfig(**{**vars(resumed), "prompts": both}))
    assert spies["load"] == 3  # for the detector's cell alone
    for one, other in zip(whole.cells, grown.cells, strict=True):
        assert one.scored.metrics == other.scored.metrics
        name = f"{one.name}/coco_results.json"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "part" / name).read_bytes()
    spies.clear()
    rescored = evaluate(EvaluationConfig(**{**vars(resumed), "protocol": "coco"}))
    assert not spies
    assert len(rescored.cells[0].scored.objects) == 6 and len(whole.cells[0].scored.objects) == 6
    assert {one.object.crowd for one in rescored.cells[0].scored.objects} == {False}
    assert rescored.cells[0].speed  # that of the run that did the work
    with pytest.raises(UsageError, match="other settings"):
        evaluate(EvaluationConfig(**{**vars(resumed), "limit": 2}))


def test_an_image_that_fails_counts_and_is_told(data: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in (data / "images").iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    (images / "game.jpg").write_bytes(b"\xff\xd8\xff broken")
    Pil.new("RGB", (10, 10)).save(images / "grey.jpg")
    command = (
        "evaluate",
        "coco",
        data / "truth.json",
        "--images",
        images,
        "-o",
        tmp_path / "out",
        "--gt-boxes",
        "--offline",
    )
    _, err = evsam(*command, code=1)
    assert "failed: game.jpg" in err and "10 x 10, but the annotations say 64 x 48" in err
    document = score(tmp_path / "out" / "gt-box+evsam-starter")
    assert set(document["stamp"]["failed_images"]) == {"game.jpg", "grey.jpg"}
    read = read_ground_truth(data / "truth.json")
    assert sum(map(len, read.objects.values())) == 7 and document["metrics"]["mIoU"]["all"] > 0
    (images / "street.jpg").unlink()
    _, err = evsam(*command, "--overwrite", code=2)
    assert "1 of the 3 images" in err and "street.jpg" in err


def test_stored_pixels_are_scored_not_turned_ones(data: Path, tmp_path: Path) -> None:
    """Annotations know no EXIF orientation."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "turned").mkdir()
    exif = Pil.Exif()
    exif[0x112] = 6
    for path in (data / "images").iterdir():
        Pil.open(path).save(images / path.name)
        Pil.open(path).save(images / "turned" / path.name, exif=exif)
    config = EvaluationConfig(
        data / "truth.json", tmp_path / "a", images / "turned", prompts=(TruthBoxes(),), report=False
    )
    turned = evaluate(config)
    assert not turned.failed
    plainly = evaluate(EvaluationConfig(**{**vars(config), "images": images, "output": tmp_path / "b"}))
    assert turned.cells[0].scored.metrics == plainly.cells[0].scored.metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say how to prompt"),
        (("--gt-boxes",), "--images"),
        (("--images", "x", "--clicks", "3,1"), "greater than the one before"),
        (("--images", "x", "--clicks", "a"), "not numbers of clicks"),
        (("--images", "x", "--gt-boxes", "--protocol", "mine"), "unknown protocol 'mine'"),
        (("--images", "x", "--gt-boxes", "--sam", "sam9"), "unknown SAM 'sam9'"),
        (("--images", "x", "--detector", "yolo99"), "unknown detector"),
        (("--images", "x", "--gt-boxes"), "are not in x"),
        (("--images", "x", "--boxes", "none.json"), "cannot be read"),
        (("--results", "none.json"), "cannot be read"),
        (("--images", "x", "--gt-boxes", "--sam", "evsam-starter,efficientvit-sam-l0", "--weights", "f"), "several"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(data: Path, tmp_path: Path, options: Sequence[str], message: str) -> None:
    _, err = evsam("evaluate", "coco", data / "truth.json", "-o", tmp_path / "out", "--offline", *options, code=2)
    assert message in err and err.count("\n") == 1
    assert not list((tmp_path / "out").glob("*/scores.json"))


def test_classes_are_matched_by_name(data: Path, tmp_path: Path) -> None:
    read = read_ground_truth(data / "truth.json")
    images = [load_image(data, "street.jpg")]

    class Coco:
        """A detector of three classes, whose names the truth writes otherwise, or not at all."""

        categories = tuple(Category(id, name) for id, name in ((1, "person"), (2, "bicycle"), (6, "BUS")))
        batch = 1

        def __call__(self, images: Sequence[Image]) -> list:
            boxes = np.array([[0, 0, 9, 9], [0, 0, 8, 8], [0, 0, 7, 7]], np.float32)
            return [Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 2, 6]))] * len(images)

    named = NamedClasses("coco", Coco(), read, {}, False)
    (found,) = named.find(images, [[]])
    assert found.category_ids.tolist() == [4, 6] and found.boxes[:, 2].tolist() == [9, 7]
    assert named.settings["classes_left_out"] == ["bicycle"] and not named.agnostic
    (every,) = NamedClasses("coco", Coco(), read, {}, True).find(images, [[]])
    assert every.category_ids.tolist() == [4, 4, 4]
    Coco.categories = Coco.categories[1:2]
    with pytest.raises(UsageError, match="--class-agnostic"):
        NamedClasses("coco", Coco(), read, {}, False)


def load_image(data: Path, name: str) -> Image:
    return Image(name, np.asarray(Pil.open(data / "images" / name).convert("RGB")))


def test_box_files_of_every_kind(data: Path, tmp_path: Path) -> None:
    read = read_ground_truth(data / "truth.json")
    images = [load_image(data, name) for name in ("street.jpg", "game.jpg", "grey.jpg")]
    (tmp_path / "boxes.csv").write_text(
        "image,cx,cy,w,h,category,score\nstreet.jpg,50,60,20,10,bus,0.2\nstreet.jpg,5,6,2,2,bus,0.5\n"
    )
    csv_boxes = build_prompter(FileOfBoxes(tmp_path / "boxes.csv"), read).find(images, [[]] * 3)
    assert [len(found) for found in csv_boxes] == [2, 0, 0]
    assert csv_boxes[0].boxes.tolist() == [[4, 5, 6, 7], [40, 55, 60, 65]]
    truth_boxes = build_prompter(FileOfBoxes(data / "truth.json"), read).find(images, [[]] * 3)
    assert [len(found) for found in truth_boxes] == [3, 3, 0]  # the annotation with an area below 1 is none
    named = {"image_id": 11, "file_name": "game.jpg", "category_id": 77, "category_name": "Bus"}
    (tmp_path / "named.json").write_text(json.dumps([{**named, "bbox": [1, 2, 3, 4], "score": 0.5}]))
    by_name = build_prompter(FileOfBoxes(tmp_path / "named.json"), read).find(images, [[]] * 3)
    assert [found.category_ids.tolist() for found in by_name] == [[], [6], []]
    (tmp_path / "other.json").write_text('[{"image_id": 11, "category_id": 5, "bbox": [0, 0, 1, 1], "score": 1}]')
    with pytest.raises(DataError, match=r"category 5 \(airplane\), which is not in truth\.json"):
        build_prompter(FileOfBoxes(tmp_path / "other.json"), read)
    (found, *_) = build_prompter(FileOfBoxes(tmp_path / "other.json"), read, agnostic=True).find(images, [[]] * 3)
    assert found.category_ids.tolist() == [4]
    (tmp_path / "strange.json").write_text('[{"image_id": 999, "category_id": 4, "bbox": [0, 0, 1, 1], "score": 1}]')
    with pytest.raises(DataError, match="none of the 3 images"):
        build_prompter(FileOfBoxes(tmp_path / "strange.json"), read)


def test_category_names_take_the_best_pairs(data: Path) -> None:
    """A box may come under several names, as in the published evaluations; none is cut by a threshold."""
    read = read_ground_truth(data / "truth.json")

    class Answers:
        batch = 1

        def read(self, phrases: Sequence[str], *, alone: bool) -> None:
            assert (list(phrases), alone) == (["Person", "bus"], False)

        def __call__(self, images: Sequence[Image]) -> list[list[Pass]]:
            boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.1, 0.1], [3, 3, 0.1, 0.1]], np.float32)[:2]
            scores = np.array([[0.5, 0.4], [0.01, 0.6]], np.float32)
            return [[Pass(boxes, scores, np.array([0, 1]))]] * len(images)

    (found,) = CategoryDetector(Answers(), read, 3)([load_image(data, "game.jpg")])
    assert found.category_ids.tolist() == [6, 4, 6] and found.scores.tolist() == pytest.approx([0.6, 0.5, 0.4])
    assert found.boxes[1].tolist() == [80, 45, 240, 135] == found.boxes[2].tolist()
    assert phrase_of("car_(automobile)") == "car (automobile)"


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


def test_clicks_need_rounds() -> None:
    with pytest.raises(UsageError):
        SimulatedClicks((0, 1))


def test_the_documented_commands_exist() -> None:
    """Every command of the pages on evaluation is one of the command line's, with options that it has."""
    docs = Path(__file__).parents[1] / "docs"
    text = "".join((docs / page).read_text("utf-8") for page in ("evaluation.md", "benchmarks/evaluation.md"))
    commands = set(re.findall(r"^(?:\| `)?(evsam [^`\n]+)", text, re.MULTILINE))
    assert len(commands) > 25
    helps: dict[tuple[str, ...], str] = {}
    for command in commands:
        words = command.split()[1:]
        verb = tuple(words[: 2 if words[0] == "evaluate" else 1])
        if verb not in helps:
            helps[verb] = " ".join(evsam(*verb, "--help")[0].split())
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", command):
            assert option in helps[verb], f"{command}: {option}"
        for sam in re.findall(r"--sam (\S+)", command):
            assert set(sam.split(",")) <= set(SAMS)
