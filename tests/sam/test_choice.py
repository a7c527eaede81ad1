"""Which of a prompt's four masks answers it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.seeded import picture, seeded_predictor

from pipelines.export.network import GraphDecoded
from pipelines.sam import SamConfig
from pipelines.sam.choice import MULTI, MaskChoice, by_stability
from pipelines.sam.predictor import SamPredictor

INNER, OUTER = [4, 9, 0, 6], [8, 10, 0, 8]
"""Pixels above 1, and above -1, of four masks; the third is all background."""


def decoded() -> GraphDecoded:
    low_res = torch.full((2, 4, 256, 256), -9.0)
    for token, (inner, outer) in enumerate(zip(INNER, OUTER, strict=True)):
        low_res[0, token, 0, :outer] = 1.0  # is not above 1
        low_res[0, token, 0, :inner] = 1.5
    low_res[1] = low_res[0, [1, 0, 3, 2]]
    return GraphDecoded(low_res, torch.tensor([[0.1, 0.2, 0.9, 0.3]]).expand(2, -1))


def test_predicted_iou_ranks_unless_a_family_says_otherwise() -> None:
    best = MaskChoice().best(decoded(), boxes=True)
    assert best.tokens.tolist() == [[2], [2]]
    torch.testing.assert_close(best.scores, torch.tensor([[0.9], [0.9]]))
    assert (best.masks() == decoded().low_res[:, 2:3]).all()


def test_stability_ranks_where_it_is_asked_to() -> None:
    choice = MaskChoice(boxes=(0,), clicks=(0, 1, 2, 3), rank=by_stability)
    ranked = choice.ranked(decoded(), choice.clicks)
    torch.testing.assert_close(ranked.scores, torch.tensor([[0.5, 0.9, 0, 0.75], [0.9, 0.5, 0.75, 0]]))
    clicks = choice.best(decoded(), boxes=False)
    assert clicks.tokens.tolist() == [[1], [0]]
    assert (clicks.masks()[:, 0] == decoded().low_res[[0, 1], [1, 0]]).all()
    assert choice.best(decoded(), boxes=True).tokens.tolist() == [[0], [0]]
    one = ranked.take(torch.tensor([1]))
    assert (one.masks() == decoded().low_res[1:]).all() and one.tokens.tolist() == [[0, 1, 2, 3]]


@pytest.fixture(scope="module")
def edge() -> SamPredictor:
    sam = seeded_predictor("edge-sam")
    sam.set_image(picture())
    return sam


def test_edge_sam_answers_boxes_with_token_0_and_clicks_by_stability(edge: SamPredictor) -> None:
    box, click = [[60, 40, 220, 200]], {"points": [[[150, 120]]], "labels": [[1]]}
    (single,) = edge.predict(box, multimask_output=False).low_res_masks
    assert edge.segment_boxes(box).stability_score[0] == edge.image.upscaler.to_masks(torch.from_numpy(single))[1][0]
    (single,), (three,) = (edge.predict(**click, multimask_output=multi).low_res_masks for multi in (False, True))
    every = np.concatenate([single, three])
    scores = (every > 1).sum((1, 2)) / (every > -1).sum((1, 2))
    assert edge.segment_points(**click).predicted_iou[0] == pytest.approx(scores.max())
    (found,) = edge.image.candidates([[150, 120]], min_iou=-1, at_once=1)
    np.testing.assert_allclose(found.predicted_iou, scores[1:], rtol=1e-6)
    assert edge.network.conventions.choice.multi == MULTI


def test_a_run_tells_what_the_weights_may_not_be_used_for() -> None:
    assert SamConfig("edge-sam-3x").settings()["sam_licence"] == "LicenseRef-S-Lab-1.0: no commercial use"
    assert "sam_licence" not in SamConfig("mobile-sam").settings()
