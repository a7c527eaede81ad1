"""Tables of detectors and SAMs: each step done once, killed and resumed, and text detectors as any other."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image as Pil
from support.evaluation_cases import annotated_photographs
from support.runs import evsam, journal_of, run_stopped

from pipelines.detectors import DetectorConfig
from pipelines.detectors.yolo import Yolo
from pipelines.evaluation.box_prompts import RawBoxFileDetector
from pipelines.evaluation.config import EvaluationConfig, RawBoxFilePrompts, SimulatedClicks, TruthBoxes
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.loop import Model
from pipelines.evaluation.matrix import latex
from pipelines.images import annotated
from pipelines.images.load import load
from pipelines.records import Record
from pipelines.sam import build_sam
from pipelines.sam.encoded import Encoded
from pipelines.sam.predictor import Prepared, SamPredictor
from pipelines.types import Detections, Image
from weights import digest, loading, store


@pytest.fixture(scope="module")
def data(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = annotated_photographs(tmp_path_factory.mktemp("data"), photographs)
    boxes = [{"image_id": 11, "category_id": 6, "bbox": [5, 75, 230, 140], "score": 0.9}]
    boxes += [{"image_id": 22, "category_id": 4, "bbox": [150, 10, 130, 168], "score": 0.7}]
    (folder / "vitdet.json").write_text(json.dumps(boxes))
    return folder


@pytest.fixture
def models() -> list[Model]:
    """The starter SAM, and another of its size with other weights."""
    state = loading.load_state_dict(store.fetch("evsam-starter", offline=True))
    other = build_sam("evsam-starter", {key: 0.97 * value for key, value in state.items()})
    other.name = "other"
    return [Model(sam, {"name": sam.name}) for sam in (build_sam("evsam-starter", offline=True), other)]


def test_each_step_is_done_once(
    data: Path, tmp_path: Path, models: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 detectors x 2 SAMs: an image is decoded once, searched once by each detector, encoded once by each SAM."""
    done: Counter[tuple[str, object]] = Counter()
    find, read, encode = Yolo.__call__, RawBoxFileDetector.__call__, SamPredictor.encode

    def counted_load(*arguments: object, **options: object) -> Image:
        done["load", arguments[0].name] += 1
        return load(*arguments, **options)

    def counted_find(detector: Yolo, images: Sequence[Image]) -> Sequence[Detections]:
        done.update(("objects", image.name) for image in images)
        return find(detector, images)

    def counted_read(boxes: RawBoxFileDetector, images: Sequence[Image]) -> list[Detections]:
        done.update(("vitdet", image.name) for image in images)
        return read(boxes, images)

    def counted_encode(sam: SamPredictor, images: Sequence[Prepared]) -> Encoded:
        done.update((sam.name, image.frame) for image in images)
        return encode(sam, images)

    monkeypatch.setattr(annotated, "load", counted_load)
    monkeypatch.setattr(Yolo, "__call__", counted_find)
    monkeypatch.setattr(RawBoxFileDetector, "__call__", counted_read)
    monkeypatch.setattr(SamPredictor, "encode", counted_encode)
    prompts = (DetectorConfig("objects", conf=0.001, max_det=3), RawBoxFilePrompts(data / "vitdet.json"))
    config = EvaluationConfig(data / "truth.json", tmp_path / "both", data / "images", prompts=prompts, report=False)
    table = evaluate(config, models=models)
    assert set(done.values()) == {1}
    counted = Counter(step for step, _ in done)
    assert (counted["load"], counted["objects"], counted["vitdet"]) == (3, 3, 3)
    assert counted["evsam-starter"] == counted["other"] >= 2

    names = ["objects+evsam-starter", "objects+other", "vitdet+evsam-starter", "vitdet+other"]
    assert [cell.name for cell in table.cells] == names
    alone = EvaluationConfig(**{**vars(config), "output": tmp_path / "one", "prompts": prompts[1:]})
    evaluate(alone, models=models[1:])
    results = [(tmp_path / run / "vitdet+other" / "coco_results.json").read_bytes() for run in ("both", "one")]
    assert results[0] == results[1]
    assert results[0] != (tmp_path / "both" / "vitdet+evsam-starter" / "coco_results.json").read_bytes()


@pytest.mark.parametrize("fitting", [4, 1])
def test_images_that_a_sam_takes_together(
    data: Path, tmp_path: Path, models: list[Model], monkeypatch: pytest.MonkeyPatch, fitting: int
) -> None:
    """As on a GPU: the same masks as one by one. What does not fit into memory together is done alone; a photo that
    cannot be read, or where nothing is prompted, stays what it is."""
    model, encode, together = models[0], SamPredictor.encode, []

    def encode_what_fits(sam: SamPredictor, images: Sequence[Prepared]) -> Encoded:
        together.append(len(images))
        if len(images) > fitting:
            raise torch.OutOfMemoryError("out of memory")
        return encode(sam, images)

    monkeypatch.setattr(SamPredictor, "encode", encode_what_fits)
    images = tmp_path / "images"
    shutil.copytree(data / "images", images)
    truth = json.loads((data / "truth.json").read_text())
    truth["images"].insert(0, {**truth["images"][0], "id": 99, "file_name": "broken.jpg"})
    (images / "broken.jpg").write_bytes(b"none")
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    prompts = (TruthBoxes(), SimulatedClicks((1, 2)), RawBoxFilePrompts(data / "vitdet.json"))

    def records(batch: int) -> list[Record]:
        model.sam.batch = batch
        config = EvaluationConfig(tmp_path / "truth.json", tmp_path / str(batch), images, prompts=prompts, report=False)
        evaluate(config, models=[model])
        cells = ("gt-box", "clicks-1", "clicks-2", "vitdet")
        journals = [journal_of(config.output / f"{cell}+evsam-starter") for cell in cells]
        return [Record.from_line(line) for path in journals for line in path.read_text().splitlines()]

    alone, batched = records(1), records(4)
    assert together == [1, 1, 3, *([] if fitting == 4 else [1, 1, 1])]
    assert [replace(record, instances=()) for record in batched] == [replace(record, instances=()) for record in alone]
    assert {record.status for record in alone} == {"done", "empty", "failed"}
    for ours, theirs in zip(batched, alone, strict=True):
        for a, b in zip(ours.instances, theirs.instances, strict=True):
            assert a["predicted_iou"] == pytest.approx(b["predicted_iou"], abs=1e-4) and abs(a["area"] - b["area"]) <= 5


def test_a_killed_table_goes_on(photographs: list[Path], tmp_path: Path, one_thread: None) -> None:
    """Killed without warning, then resumed: the same scores and results as of a run that was left alone."""
    images = tmp_path / "images"
    images.mkdir()
    scene = Pil.open(photographs[0]).convert("RGB").resize((200, 260))
    listed, annotations = [], []
    for id in range(1, 9):
        scene.crop((id, 0, id + 180, 240)).save(images / f"{id}.png")
        listed.append({"id": id, "file_name": f"{id}.png", "width": 180, "height": 240})
        square = [20.0 + id, 60, 140, 60, 140, 170, 20, 170]
        box = {"bbox": [20, 60, 120, 110], "area": 13000, "segmentation": [square]}
        annotations.append({"id": id, "image_id": id, "category_id": 1, "iscrowd": 0, **box})
    truth = {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "bus"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))

    def command(name: str) -> list[object]:
        made = ("evaluate", "coco", tmp_path / "truth.json", "--images", images, "-o", tmp_path / name, "--gt-boxes")
        return [*made, "-d", "objects", "--max-det", 2, "--device", "cpu", "--no-report", "-q"]

    done = run_stopped(*command("part"), after=5)
    journal = journal_of(tmp_path / "part" / "objects+evsam-starter")
    assert done.returncode == -signal.SIGKILL and 0 < journal.read_bytes().count(b"\n") < 8, done.stderr
    evsam(*command("part"), "--resume")
    evsam(*command("whole"))

    def outcome(name: str) -> dict[str, object]:
        folder = tmp_path / name
        results = {path.parent.name: path.read_bytes() for path in folder.glob("*/coco_results.json")}
        scores = {path.parent.name: json.loads(path.read_text())["metrics"] for path in folder.glob("*/scores.json")}
        return {"results": results, "scores": scores}

    assert outcome("part") == outcome("whole") and len(outcome("whole")["scores"]) == 2


@pytest.fixture
def text_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Small text detectors in place of the real ones."""
    from support import tiny_text

    tiny_text.shrink_swin(monkeypatch)
    tiny_text.write_cache(tmp_path / "home")
    tiny_text.use_cache(monkeypatch, tmp_path / "home")


def test_text_detectors_are_asked_for_the_categories(data: Path, tmp_path: Path, text_cache: None) -> None:
    """Real back ends of two makers, with small weights, through the command line."""
    names = ["grounding-dino-tiny", "owlv2-base"]
    evsam("evaluate", "coco", data / "truth.json", "--images", data / "images", "-o", tmp_path / "out",
          "--detector", ",".join(names), "--max-det", 3, "--device", "cpu", "--no-report", "-q")  # fmt: skip
    for name in names:
        folder = tmp_path / "out" / f"{name}+evsam-starter"
        results = json.loads((folder / "coco_results.json").read_text())
        per_image = Counter(one["image_id"] for one in results)
        assert set(per_image) == {11, 22, 33} and max(per_image.values()) <= 3
        assert {one["category_id"] for one in results} <= {4, 6}
        document = json.loads((folder / "scores.json").read_text())
        prompt = document["stamp"]["made_by"]["prompt"]
        assert prompt["phrases"] == ["Person", "bus"] and len(prompt["sha256"]) == 64
        assert set(document["metrics"]) == {"segm", "bbox", "class-agnostic"}


@pytest.mark.parametrize("protocol", ["efficientvit-sam", "coco"])
@pytest.mark.parametrize("kind", ["coco", "lvis"])
def test_the_truth_as_results_scores_100(data: Path, tmp_path: Path, kind: str, protocol: str) -> None:
    """Everything annotated handed in as results, through the command line; crowds too, where the data set has them."""
    truth = json.loads((data / "truth.json").read_text())
    if kind == "lvis":
        truth["annotations"] = [one for one in truth["annotations"] if not one["iscrowd"]]
        for image in truth["images"]:
            image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        for category in truth["categories"]:
            category["frequency"] = "f"
    keys = ("image_id", "category_id", "segmentation")
    results = [{**{key: one[key] for key in keys}, "score": 1.0} for one in truth["annotations"]]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "perfect.json").write_text(json.dumps(results))
    evsam("evaluate", kind, tmp_path / "truth.json", "-o", tmp_path / "out", "--results", tmp_path / "perfect.json",
          "--protocol", protocol, "--boundary", "--no-report", "-q")  # fmt: skip
    document = json.loads((tmp_path / "out" / "perfect" / "scores.json").read_text())
    for family in ("segm", "boundary"):
        values = {name: value for name, value in document["metrics"][family].items() if name.startswith("AP")}
        assert values["AP"] == pytest.approx(1, abs=1e-12)
        assert {round(value, 9) for value in values.values() if value is not None} == {1}
    assert document["stamp"]["protocol"]["name"] == protocol
    assert document["stamp"]["made_by"]["sha256"] == digest.sha256(tmp_path / "perfect.json")


def test_latex_is_escaped() -> None:
    text = latex([["a_b", "50 % & more"], ["x^2", r"\d~{1}$#"]], names=1)
    assert r"a\_b & 50 \% \& more \\" in text
    assert r"x\textasciicircum{}2 & \textbackslash{}d\textasciitilde{}\{1\}\$\# \\" in text
    assert text.count(r"\begin{tabular}{lr}") == text.count(r"\end{tabular}") == 1
