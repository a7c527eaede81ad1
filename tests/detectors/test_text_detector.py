"""Which boxes stay and what each is called: the rules one by one, on answers written by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.detectors.text import TEXT_DETECTORS, find_text_weights, with_text_defaults
from pipelines.detectors.text.contract import NMS, Pass, TextConfig
from pipelines.detectors.text.detector import TextDetector
from pipelines.detectors.text.phrases import Phrase, parse_phrases
from pipelines.errors import ImageError, SetupError, UnknownNameError, UsageError, WeightsError
from pipelines.types import Category, Image

IMAGE = Image("a", np.zeros((100, 200, 3), np.uint8))
PHRASES = parse_phrases(["car . red car . hat"])


class Answers:
    """A model whose answers are given: for each pass, rows of (xyxy pixels of IMAGE, scores by phrase)."""

    batch = 1

    def __init__(self, *passes: list[tuple[Sequence[float], dict[int, float]]]) -> None:
        self.passes = passes

    def read(self, phrases: Sequence[str], *, alone: bool) -> None:
        self.phrases, self.alone = list(phrases), alone

    def __call__(self, images: Sequence[Image]) -> list[list[Pass]]:
        return [[self._pass(rows) for rows in self.passes] for _ in images]

    def _pass(self, rows: list[tuple[Sequence[float], dict[int, float]]]) -> Pass:
        looked_for = sorted({phrase for _, scores in rows for phrase in scores}) or [0]
        boxes = [
            ((x1 + x2) / 2 / 200, (y1 + y2) / 2 / 100, (x2 - x1) / 200, (y2 - y1) / 100) for (x1, y1, x2, y2), _ in rows
        ]
        return Pass(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array([[scores.get(p, 0) for p in looked_for] for _, scores in rows], np.float32).reshape(
                len(rows), len(looked_for)
            ),
            np.array(looked_for, np.int64),
        )


def detect(
    *passes: list[tuple[Sequence[float], dict[int, float]]], phrases: tuple[Phrase, ...] = PHRASES, **options: Any
) -> tuple[list[tuple[list[float], float, str]], dict[str, int]]:
    """What is found, as (box, score, name), and the counts that are not 0."""
    detector = TextDetector(Answers(*passes), with_text_defaults(TextConfig(phrases, **options)))
    (found,) = detector([IMAGE])
    names = {category.id: category.name for category in detector.categories}
    rows = zip(found.boxes.round(2).tolist(), found.scores.tolist(), found.category_ids.tolist(), strict=True)
    kept = [(box, round(score, 4), names[id]) for box, score, id in rows]
    counts = dict(detector.counts)
    assert (counts.pop("images"), counts.pop("kept")) == (1, len(kept))
    return kept, {rule: count for rule, count in counts.items() if count}


LEFT, RIGHT, ALL = (0, 0, 40, 40), (100, 50, 150, 90), (0, 0, 200, 100)


class TestNaming:
    def test_the_higher_span_score_has_the_box(self) -> None:
        found, counts = detect([(LEFT, {0: 0.6, 1: 0.5, 2: 0.1}), (RIGHT, {0: 0.5, 1: 0.7, 2: 0.0})])
        assert found == [(list(RIGHT), 0.7, "red car"), (list(LEFT), 0.6, "car")]
        assert counts == {"over_box_threshold": 2, "claimed_by_several_phrases": 2}

    def test_the_box_threshold_must_be_exceeded(self) -> None:
        at = float(np.float32(0.35))
        found, counts = detect([(LEFT, {0: at, 1: 0.3}), (RIGHT, {0: 0.36, 1: 0.1})])
        assert [name for *_, name in found] == ["car"] and counts == {"over_box_threshold": 1}

    def test_a_threshold_of_a_phrases_own(self) -> None:
        phrases = parse_phrases(ontology="person=person@0.5,hard hat=helmet@0.3")
        found, counts = detect([(LEFT, {0: 0.4, 1: 0.35}), (RIGHT, {0: 0.6, 1: 0.35})], phrases=phrases)
        assert found == [(list(RIGHT), 0.6, "person"), (list(LEFT), 0.35, "helmet")]
        assert counts == {"over_box_threshold": 2, "claimed_by_several_phrases": 2}

    def test_the_text_threshold(self) -> None:
        found, counts = detect([(LEFT, {0: 0.4, 1: 0.1}), (RIGHT, {0: 0.6, 1: 0.1})], text_threshold=0.5)
        assert found == [(list(RIGHT), 0.6, "car")]
        assert counts == {"over_box_threshold": 2, "dropped_under_text_threshold": 1}

    def test_phrases_that_share_a_category(self) -> None:
        found, _ = detect(
            [(LEFT, {0: 0.5}), (RIGHT, {1: 0.6})], phrases=parse_phrases(ontology="car=vehicle,bus=vehicle")
        )
        assert [name for *_, name in found] == ["vehicle", "vehicle"]

    def test_passes_are_merged_with_their_own_phrases(self) -> None:
        found, _ = detect([(LEFT, {0: 0.5})], [(RIGHT, {2: 0.6})])
        assert [name for *_, name in found] == ["hat", "car"]

    def test_nothing_is_no_fault(self) -> None:
        assert detect([]) == detect([(LEFT, {0: 0.1})]) == ([], {})
        assert detect([(LEFT, {0: 1.0})], box_threshold=1.0) == ([], {})

    def test_what_is_no_number_fails_the_image(self) -> None:
        with pytest.raises(ImageError, match="not a finite number"):
            detect([(LEFT, {0: float("nan"), 1: 0.1})])


class TestOverlap:
    SAME = (1, 0, 41, 40)

    @pytest.mark.parametrize(("nms", "kept"), [("agnostic", 1), ("aware", 2), ("off", 3)])
    def test_kinds(self, nms: str, kept: int) -> None:
        rows = [(LEFT, {0: 0.6}), (self.SAME, {0: 0.5}), (self.SAME, {1: 0.55})]
        found, counts = detect([row for row in rows[:2]], [rows[2]], nms=nms)
        assert len(found) == kept and counts.get("dropped_as_overlapping", 0) == 3 - kept
        assert found[0] == (list(LEFT), 0.6, "car")

    def test_iou(self) -> None:
        rows = [(LEFT, {0: 0.6}), ((20, 0, 60, 40), {0: 0.5})]  # IoU 1/3
        assert len(detect(rows, iou=0.34)[0]) == 2
        assert len(detect(rows, iou=0.33)[0]) == 1

    @given(st.integers(0, 2**32 - 1), st.sampled_from(NMS), st.floats(0.1, 0.9))
    def test_no_two_boxes_left_overlap_by_more(self, seed: int, nms: str, iou: float) -> None:
        rng = np.random.default_rng(seed)
        corners = rng.uniform(0, 60, (30, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 40, (30, 2))], 1)
        rows = [(box.tolist(), {0: float(rng.random()), 1: float(rng.random())}) for box in boxes]
        found, counts = detect(rows, nms=nms, iou=iou, max_box_area=1)
        scores = [score for _, score, _ in found]
        assert scores == sorted(scores, reverse=True)
        assert counts.get("over_box_threshold", 0) == len(found) + counts.get("dropped_as_overlapping", 0)
        if nms == "off":
            return
        for i, (a, _, name) in enumerate(found):
            for b, _, other in found[:i]:
                if nms == "agnostic" or name == other:
                    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
                    shared = sides.clip(0).prod()
                    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
                    assert shared / (sum(areas) - shared) <= iou + 0.01


class TestGiants:
    def test_one_that_contains_another_is_dropped(self) -> None:
        found, counts = detect([(ALL, {0: 0.9}), (LEFT, {2: 0.5})])
        assert found == [(list(LEFT), 0.5, "hat")] and counts["dropped_as_too_large"] == 1

    def test_one_alone_stays(self) -> None:
        assert len(detect([(ALL, {0: 0.9})])[0]) == 1

    def test_a_share_of_1_drops_none(self) -> None:
        assert len(detect([(ALL, {0: 0.9}), (LEFT, {2: 0.5})], max_box_area=1)[0]) == 2

    def test_share(self) -> None:
        most = (0, 0, 200, 60)
        rows = [(most, {0: 0.9}), (LEFT, {2: 0.5})]
        assert len(detect(rows, max_box_area=0.61)[0]) == 2
        assert len(detect(rows, max_box_area=0.59)[0]) == 1

    def test_one_beside_it_is_not_inside(self) -> None:
        rows = [((0, 0, 120, 100), {0: 0.9}), ((110, 0, 200, 100), {2: 0.5})]
        assert len(detect(rows, max_box_area=0.5)[0]) == 2


class TestTheRest:
    def test_boxes_are_clipped_and_those_outside_dropped(self) -> None:
        rows = [((-10, -10, 20, 20), {0: 0.6}), ((210, 0, 230, 20), {0: 0.7}), ((50, 50, 50, 60), {0: 0.8})]
        found, counts = detect(rows)
        assert found == [([0, 0, 20, 20], 0.6, "car")] and counts["dropped_outside_the_image"] == 2

    def test_boxes_far_outside_are_no_fault(self) -> None:
        """OWLv2 looks at a square, of which the image is a part."""
        assert detect([((0, 250, 40, 290), {0: 0.9})]) == (
            [],
            {"over_box_threshold": 1, "dropped_outside_the_image": 1},
        )

    def test_max_det_keeps_the_best(self) -> None:
        rows = [((x, 0, x + 8, 8), {0: 0.4 + x / 1000}) for x in range(0, 100, 10)]
        found, counts = detect(rows, max_det=3)
        assert [score for _, score, _ in found] == [0.49, 0.48, 0.47] and counts["dropped_over_max_det"] == 7

    def test_counts_add_up_over_images(self) -> None:
        detector = TextDetector(Answers([(LEFT, {0: 0.5})]), with_text_defaults(TextConfig(PHRASES)))
        detector([IMAGE, IMAGE])
        detector([IMAGE])
        assert detector.counts["images"] == detector.counts["over_box_threshold"] == detector.counts["kept"] == 3

    def test_what_the_model_is_told(self) -> None:
        model = Answers()
        detector = TextDetector(model, with_text_defaults(TextConfig(PHRASES, per_phrase=True)))
        assert model.phrases == ["car", "red car", "hat"] and model.alone
        assert detector.categories == (Category(1, "car"), Category(2, "red car"), Category(3, "hat"))

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
    def test_out_of_memory_fails_the_image(self, error: Exception) -> None:
        class Full(Answers):
            def __call__(self, images: Sequence[Image]) -> list[list[Pass]]:
                raise error

        with pytest.raises(ImageError, match="out of memory while looking for phrases in 200 x 100 pixels"):
            TextDetector(Full(), with_text_defaults(TextConfig(PHRASES)))([IMAGE])

    @pytest.mark.parametrize(
        "options",
        [
            {"box_threshold": 1.5},
            {"text_threshold": -0.1},
            {"iou": float("nan")},
            {"max_box_area": 2},
            {"max_det": 0},
            {"nms": "soft"},
        ],
    )
    def test_values_that_cannot_be_right(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=next(iter(options))):
            TextConfig(PHRASES, **options)

    def test_no_phrases(self) -> None:
        with pytest.raises(UsageError, match="nothing to look for"):
            TextConfig(())

    def test_the_configuration_is_plain_data(self) -> None:
        plain = asdict(TextConfig(PHRASES))
        assert plain["phrases"][1] == {"text": "red car", "category": {"id": 2, "name": "red car"}, "threshold": None}

    def test_the_table_imports_nothing_heavy(self) -> None:
        code = (
            "import sys, pipelines.detectors.text;"
            "print(*{'numpy', 'torch', 'transformers', 'tokenizers', 'groundingdino'} & set(sys.modules))"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == ""

    @pytest.mark.parametrize("name", TEXT_DETECTORS)
    def test_a_missing_package_is_named_before_anything_is_fetched(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        missing = "groundingdino" if "official" in TEXT_DETECTORS[name].target else "transformers"
        backends = tuple(f"pipelines.detectors.text.{file}" for file in ("official", "hugging_face", "owlv2"))
        for loaded in [key for key in sys.modules if key == missing or key.startswith((f"{missing}.", *backends))]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(SetupError, match=rf"{name} needs the package '{missing}.*pip install 'evsam\[text\]'"):
            find_text_weights(name)

    def test_unknown_model(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown text detector 'dino'; choose one of: grounding-dino-swint"):
            find_text_weights("dino")

    @pytest.mark.parametrize("name", TEXT_DETECTORS)
    def test_missing_files_are_named_with_the_command_that_brings_them(self, name: str) -> None:
        with pytest.raises(WeightsError, match=rf"evsam weights pull {name}"):
            find_text_weights(name, offline=True)
