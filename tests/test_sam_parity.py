"""Every model of the table: the official layout, and the outputs that the reference gives for seeded weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from make_parity import DATA, TOO_LARGE, outputs, seeded_predictor
from seeded import layout_digest

from pipelines.sam import SAMS, list_sams

TOLERANCE = 1e-4
PUBLISHED_MILLIONS = {
    "efficientvit-sam-l0": 34.8,
    "efficientvit-sam-l1": 47.7,
    "efficientvit-sam-l2": 61.3,
    "efficientvit-sam-xl0": 117.0,
    "efficientvit-sam-xl1": 203.3,
    "sam-vit-h": 641.1,
}


@pytest.mark.parametrize("name", list_sams())
def test_layout_is_the_official_one(name: str) -> None:
    row = SAMS[name]
    with torch.device("meta"):
        model = row.load()(**row.options).build()
    expected = json.loads((DATA / "layouts.json").read_text())[name]
    assert layout_digest(model.state_dict()) == expected["layout_sha256"]


@pytest.mark.parametrize(("name", "millions"), PUBLISHED_MILLIONS.items())
def test_parameters_are_as_published(name: str, millions: float) -> None:
    row = SAMS[name]
    with torch.device("meta"):
        model = row.load()(**row.options).build()
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("name", sorted({*list_sams()} - TOO_LARGE))
def test_outputs_equal_the_fixture(name: str) -> None:
    with np.load(DATA / "parity.npz") as fixture:
        for key, ours in outputs(seeded_predictor(name)).items():
            reference = fixture[f"{name}/{key}"]
            error = np.linalg.norm(ours - reference) / np.linalg.norm(reference)
            assert error < TOLERANCE, key
