"""Evaluations that stop, grow or meet what cannot be: they go on, count it and say it in one line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image as Pil
from support.evaluation_cases import annotated_photographs, score
from support.runs import evsam

from pipelines.detectors import DetectorConfig
from pipelines.errors import UsageError
from pipelines.evaluation.annotations import read_ground_truth
from pipelines.evaluation.config import EvaluationConfig, SimulatedClicks, TruthBoxes
from pipelines.evaluation.evaluate import evaluate
from pipelines.images import annotated
from pipelines.images.load import load
from pipelines.records import Record
from pipelines.run import Silent
from pipelines.sam.encoded import Encoded
from pipelines.sam.predictor import Prepared, SamPredictor
from pipelines.types import Image


@pytest.fixture(scope="module")
def data(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotated_photographs(tmp_path_factory.mktemp("data"), photographs)


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
    encode = SamPredictor.encode

    def counted_load(*arguments: object, **options: object) -> Image:
        counts["load"] += 1
        return load(*arguments, **options)

    def counted_encode(sam: SamPredictor, images: Sequence[Prepared]) -> Encoded:
        counts[sam.name] += len(images)
        return encode(sam, images)

    monkeypatch.setattr(annotated, "load", counted_load)
    monkeypatch.setattr(SamPredictor, "encode", counted_encode)
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


def test_cells_of_machines_that_differ_are_noted(data: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(
        data / "truth.json", tmp_path / "out", data / "images", prompts=(TruthBoxes(),), report=False, resume=True
    )
    assert evaluate(config).notes == evaluate(config).notes
    state = tmp_path / "out/gt-box+evsam-starter/.evsam"
    (machine,) = json.loads((state / "machines.json").read_text())
    (state / "machines.json").write_text(json.dumps([{**machine, "threads": 96}]))
    assert not any("alike" in note for note in evaluate(config).notes), "nothing was left to do"
    (state / "journal.jsonl").write_text("")
    (note,) = (note for note in evaluate(config).notes if "alike" in note)
    assert f"(threads: 96, {machine['threads']})" in note
    assert note in json.loads((state.parent / "scores.json").read_text())["notes"]


class Rival(Silent):
    """Another run that starts anew in the same folder, when this one has begun."""

    def __init__(self, config: EvaluationConfig) -> None:
        self.config = config

    def started(self, total: int, finished: int) -> None:
        with pytest.raises(UsageError, match="another run is writing"):
            evaluate(self.config)


def test_two_runs_do_not_share_a_cell(data: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(
        data / "truth.json", tmp_path / "out", data / "images", prompts=(TruthBoxes(),), overwrite=True, report=False
    )
    assert len(evaluate(config, Rival(config)).cells[0].scored.objects) == 6
    evaluate(config)  # the first is done


def test_records_are_of_classes_or_of_none(data: Path, tmp_path: Path) -> None:
    """The classes of stored records are not those of a run with all classes taken as one."""
    (tmp_path / "boxes.json").write_text('[{"image_id": 11, "category_id": 6, "bbox": [5, 75, 230, 140], "score": 1}]')
    command = ("evaluate", "coco", data / "truth.json", "--images", data / "images", "-o", tmp_path / "out", "--boxes",
               tmp_path / "boxes.json", "--offline", "--no-report")  # fmt: skip
    evsam(*command, "--class-agnostic")
    _, err = evsam(*command, "--resume", code=2)
    assert "(prompt.agnostic: True then, False now)" in err and err.count("\n") == 1


def test_speed_counts_the_images_of_each_cell(data: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(
        data / "truth.json", tmp_path / "out", data / "images", prompts=(TruthBoxes(),), report=False
    )
    with pytest.raises(SystemExit):
        evaluate(config, Stop(1))
    both = EvaluationConfig(**{**vars(config), "resume": True, "prompts": (TruthBoxes(), SimulatedClicks((1,)))})
    assert [cell.speed["images"] for cell in evaluate(both).cells] == [2, 3]
    more = EvaluationConfig(**{**vars(both), "prompts": (TruthBoxes(), SimulatedClicks((2,)))})
    assert [cell.speed["images"] for cell in evaluate(more).cells] == [2, 3]  # the first had nothing left to do
    (tmp_path / "out" / "gt-box+evsam-starter" / "scores.json").unlink()
    more = EvaluationConfig(**{**vars(both), "prompts": (TruthBoxes(), SimulatedClicks((3,)))})
    assert [dict(cell.speed).get("images") for cell in evaluate(more).cells] == [None, 3]


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
        (("--images", "x", "--clicks", "a"), "--clicks takes whole numbers"),
        (("--images", "x", "--gt-boxes", "--protocol", "mine"), "unknown protocol 'mine'"),
        (("--images", "x", "--gt-boxes", "--sam", "sam9"), "unknown SAM 'sam9'"),
        (("--images", "x", "--detector", "yolo99"), "detector 'yolo99' is not supported"),
        (("--images", "x", "--gt-boxes"), "are not in x"),
        (("--images", "x", "--boxes", "none.json"), "cannot be read"),
        (("--results", "none.json"), "cannot be read"),
        (("--images", "x", "--gt-boxes", "--sam", "evsam-starter,efficientvit-sam-l0", "--weights", "f"), "several"),
        (("--images", "x", "--gt-boxes", "--sam", ","), "name a SAM at least"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(data: Path, tmp_path: Path, options: Sequence[str], message: str) -> None:
    _, err = evsam("evaluate", "coco", data / "truth.json", "-o", tmp_path / "out", "--offline", *options, code=2)
    assert message in err and err.count("\n") == 1
    assert not list((tmp_path / "out").glob("*/scores.json"))


def test_clicks_need_rounds() -> None:
    with pytest.raises(UsageError):
        SimulatedClicks((0, 1))
