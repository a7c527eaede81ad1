"""BSDS500's edge scores: thinning, matching and counting equal to plain formulations; agreement of annotators."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from scipy.optimize import linear_sum_assignment

from pipelines.errors import DataError
from pipelines.evaluation.bsds import (
    THRESHOLDS,
    EdgeCounts,
    count_edges,
    human_agreement,
    read_annotators,
    read_edges,
    score_edges,
    score_humans,
    summarise,
)
from pipelines.evaluation.edge_maps import match_edges, thin

maps = st.tuples(st.integers(0, 2**32 - 1), st.floats(0.02, 0.6)).map(
    lambda drawn: np.random.default_rng(drawn[0]).random((24, 30)) < drawn[1]
)


def plain_thin(image: np.ndarray) -> np.ndarray:
    """Guo and Hall 1989, A1, pixel by pixel from the paper's conditions."""
    image = np.pad(image, 1).astype(int)
    while True:
        changed = False
        for odd in (True, False):
            gone = []
            for y, x in np.argwhere(image[1:-1, 1:-1]) + 1:
                p = [image[y, x + 1], image[y - 1, x + 1], image[y - 1, x], image[y - 1, x - 1]]
                p += [image[y, x - 1], image[y + 1, x - 1], image[y + 1, x], image[y + 1, x + 1]]
                p.append(p[0])
                crossings = sum(not p[i] and bool(p[i + 1] or p[i + 2]) for i in (0, 2, 4)) + (
                    not p[6] and bool(p[7] or p[0])
                )
                n1 = sum(bool(p[i] or p[i + 1]) for i in (0, 2, 4, 6))
                n2 = sum(bool(p[i + 1] or p[i + 2]) for i in (0, 2, 4)) + bool(p[7] or p[0])
                if odd:
                    third = (p[1] or p[2] or not p[7]) and p[0]
                else:
                    third = (p[5] or p[6] or not p[3]) and p[4]
                if crossings == 1 and 2 <= min(n1, n2) <= 3 and not third:
                    gone.append((y, x))
            for y, x in gone:
                image[y, x] = 0
                changed = True
        if not changed:
            return image[1:-1, 1:-1].astype(bool)


@settings(max_examples=30)
@given(maps)
def test_thinning_equals_the_paper(edges: np.ndarray) -> None:
    edges = cv2.dilate(edges.astype(np.uint8), np.ones((2, 3), np.uint8)).astype(bool)
    assert (thin(edges) == plain_thin(edges)).all()


def test_thinning_keeps_what_is_thin_and_every_part() -> None:
    line = np.zeros((20, 20), bool)
    line[5, 3:17] = True
    assert (thin(line) == line).all()
    block = np.zeros((20, 20), bool)
    block[4:9, 3:17] = True
    assert 0 < thin(block).sum() < 20
    assert not thin(np.zeros((4, 4), bool)).any()


@settings(max_examples=40)
@given(maps, maps)
def test_matching_is_the_cheapest_of_the_largest(found: np.ndarray, truth: np.ndarray) -> None:
    """Against a dense assignment of every pixel to every pixel or to nothing."""
    tolerance = 0.06
    reach = tolerance * math.hypot(*found.shape)
    mine, theirs = match_edges(found, truth, tolerance)
    assert mine.sum() == theirs.sum()
    assert not (mine & ~found).any() and not (theirs & ~truth).any()
    a, b = np.argwhere(found), np.argwhere(truth)
    if not len(a) or not len(b):
        assert not mine.any()
        return
    distance = np.sqrt(((a[:, None] - b[None]) ** 2).sum(2))
    cost = np.where(distance <= reach, distance, 1e6)
    cost = np.concatenate([cost, np.where(np.eye(len(a), dtype=bool), 100 * reach, 1e6)], axis=1)
    rows, columns = linear_sum_assignment(cost)
    best = cost[rows, columns].sum()
    paired = int((columns < len(b)).sum())
    assert mine.sum() == paired
    among = np.sqrt(((np.argwhere(mine)[:, None] - np.argwhere(theirs)[None]) ** 2).sum(2))
    among[among > reach] = 1e6
    ours = among[linear_sum_assignment(among)].sum() + 100 * reach * (len(a) - paired)
    assert ours == pytest.approx(best, abs=1e-6)


def test_counts_of_several_annotators() -> None:
    """Recall adds the annotators up; precision asks whether any of them confirms a pixel."""
    first, second = np.zeros((2, 60, 80), bool)
    first[20, 10:70], second[40, 10:70] = True, True
    probability = np.zeros((60, 80))
    probability[20, 10:70], probability[50, 10:30] = 0.805, 0.3
    counts = count_edges(probability, [first, second])
    assert len(counts.found) == len(THRESHOLDS) == 99
    low, high = 9, 79  # thresholds 0.10 and 0.80
    assert [getattr(counts, name)[low] for name in ("recalled", "truth", "confirmed", "found")] == [60, 120, 60, 80]
    assert [getattr(counts, name)[high] for name in ("recalled", "truth", "confirmed", "found")] == [60, 120, 60, 60]
    assert counts.found[80] == 0 and counts.recalled[80] == 0
    metrics = summarise([counts])
    assert metrics["ODS"] == pytest.approx(2 * 0.5 / 1.5) and metrics["ODS precision"] == 1
    assert metrics["OIS"] == pytest.approx(2 * 0.5 / 1.5)


def plain_summary(counts: list[EdgeCounts]) -> tuple[float, float, float]:
    """ODS, OIS and AP as edgesEvalDir.m works them out."""
    total = [
        sum(getattr(one, name).astype(float) for one in counts) for name in ("recalled", "truth", "confirmed", "found")
    ]
    recall, precision = total[0] / np.maximum(total[1], 1e-16), total[2] / np.maximum(total[3], 1e-16)

    def f(p: float, r: float) -> float:
        return 2 * p * r / max(p + r, 1e-16)

    ods = max(
        f(precision[j] * a + precision[j - 1] * (1 - a), recall[j] * a + recall[j - 1] * (1 - a))
        for j in range(1, 99)
        for a in np.linspace(0, 1, 100)
    )
    own = np.zeros(4)
    for one in counts:
        r, p = one.recalled / np.maximum(one.truth, 1e-16), one.confirmed / np.maximum(one.found, 1e-16)
        k = int(np.argmax([f(p[i], r[i]) for i in range(99)]))
        own += [one.recalled[k], one.truth[k], one.confirmed[k], one.found[k]]
    ois = f(own[2] / own[3], own[0] / own[1])
    points: dict[float, float] = {}
    for r, p in zip(recall, precision, strict=True):
        points.setdefault(r, p)
    xs = sorted(points)
    ap = sum(
        np.interp(level, xs, [points[x] for x in xs]) for level in np.linspace(0, 1, 101) if xs[0] <= level <= xs[-1]
    )
    return ods, ois, ap / 100


def test_ods_ois_and_ap_equal_the_plain_formulation() -> None:
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(4):
        truth = [rng.random((40, 50)) < 0.05 for _ in range(3)]
        noise = cv2.GaussianBlur(rng.random((40, 50)), (3, 3), 0)
        counts.append(count_edges(np.clip(0.5 * noise + 0.5 * truth[0] * rng.random((40, 50)), 0, 1), truth, 0.02))
    metrics = summarise(counts)
    assert (metrics["ODS"], metrics["OIS"], metrics["AP"]) == pytest.approx(plain_summary(counts), abs=1e-9)
    assert 0.05 < metrics["ODS"] <= metrics["OIS"] < 1


def test_recall_at_a_precision_that_is_never_reached() -> None:
    truth = np.full(99, 100)
    found = np.arange(100, 1, -1)
    metrics = summarise([EdgeCounts(found // 4, truth, found // 4, found)])
    assert metrics["R50"] is None
    metrics = summarise([EdgeCounts(found // 2, truth, found - found // 4, found)])
    assert 0 < metrics["R50"] < 1


def write_truth(path: Path, annotators: list[np.ndarray]) -> None:
    cells = np.empty((1, len(annotators)), object)
    for place, one in enumerate(annotators):
        cells[0, place] = {"Segmentation": one.astype(np.uint16), "Boundaries": one.astype(np.uint8)}
    savemat(path, {"groundTruth": cells})


def test_folders(tmp_path: Path) -> None:
    """Files in BSDS500's form; a map equal to the only annotator scores 1, an empty one 0; annotators who agree, 1."""
    edges, truths = tmp_path / "edges", tmp_path / "truth"
    edges.mkdir(), truths.mkdir()
    rng = np.random.default_rng(1)
    for name in ("12", "345"):
        truth = thin(rng.random((40, 60)) < 0.1)
        write_truth(truths / f"{name}.mat", [truth, truth])
        cv2.imwrite(str(edges / f"{name}.jpg.png"), truth.astype(np.uint16) * 65535)
        assert (read_annotators(truths / f"{name}.mat")[1] == truth).all()
    metrics = summarise(score_edges(truths, edges, workers=2))
    assert metrics["ODS"] == metrics["OIS"] == pytest.approx(1) and metrics["images"] == 2
    agreement = [f for one in score_humans(truths) for f in one.curve()[2]]
    assert agreement == pytest.approx([1] * 4)
    for path in edges.glob("*.png"):
        cv2.imwrite(str(path), np.zeros((40, 60), np.uint8))
    assert summarise(score_edges(truths, edges))["ODS"] == 0
    cv2.imwrite(str(path), np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match="not of the size"):
        score_edges(truths, edges)
    path.unlink()
    with pytest.raises(DataError, match="no edge map"):
        score_edges(truths, edges)
    with pytest.raises(DataError, match=r"no \.mat"):
        score_edges(edges, edges)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n"):
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(DataError, match="not an edge map"):
            read_edges(path)
        with pytest.raises(DataError, match="not ground truth"):
            read_annotators(path)
    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match="grey"):
        read_edges(tmp_path / "colour.png")


def test_annotators_who_differ() -> None:
    """Two annotators with one line each, a third with both, by hand; lines that are thicker count as thin ones."""
    one, two = np.zeros((2, 60, 80), bool)
    one[20, 10:70], two[40, 10:70] = True, True
    counts = human_agreement([one, two, one | two])
    assert [counts.recalled.tolist(), counts.truth.tolist()] == [[60, 60, 120], [180, 180, 120]]
    assert [counts.confirmed.tolist(), counts.found.tolist()] == [[60, 60, 120]] * 2
    pooled = counts.pooled()
    assert [int(getattr(pooled, name)[0]) for name in ("recalled", "truth", "confirmed", "found")] == [
        240,
        480,
        240,
        240,
    ]
    thick = one.copy()
    thick[21, 10:70] = True
    (f,) = human_agreement([one, thick], 0.02).pooled().curve()[2]
    assert f == pytest.approx(1, abs=0.02) and plain_thin(thick).sum() < thick.sum()
