"""Every model of the table: the official layout, and the outputs that the reference gives for seeded weights."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from support.seeded import REFERENCE, official_layout, official_weights

from pipelines.sam import SAMS, build_sam, list_sams
from pipelines.sam.frame import preprocess
from pipelines.sam.layers import fold_norms
from pipelines.sam.model import Sam
from pipelines.sam.network import SamSource
from weights.loading import check_state_dict

TOLERANCE = 1e-4
README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
DOCUMENTED = dict(re.findall(r"^\| `([\w.-]+)` \| ([\d.]+ M \| \d+) \|", README, re.MULTILINE))
"""By model, its parameters and its input in the README's table."""
BOXES = [[60, 40, 420, 300], [300, 200, 620, 420], [10.5, 12.25, 90.75, 80.5]]
ROWS, COLUMNS = np.mgrid[:256, :256]
MASK = (20 - np.hypot(ROWS - 70, COLUMNS - 90) / 3).astype(np.float32)[None, None]
CASES = {
    "box": {"boxes": BOXES[:1]},
    "boxes3": {"boxes": BOXES},
    "point": {"points": [[[250, 180]]], "labels": [[1]]},
    "points3": {"points": [[[250, 180], [300, 220], [30, 400]]], "labels": [[1, 1, 0]]},
    "point_box_mask": {"points": [[[250, 180]]], "labels": [[1]], "boxes": BOXES[:1], "mask_input": MASK},
}
"""Prompts in pixels of the photograph."""
KINDS = {
    "multi": {"multimask_output": True},
    "single": {"multimask_output": False},
    "hq_only": {"multimask_output": False, "hq_token_only": True},
}
"""What is asked for; a reference has those that its model knows."""
REFERENCES = {
    **{path.stem: path.stem for path in sorted(REFERENCE.glob("*.npz")) if path.stem in SAMS},
    "nanosam4": "nanosam",
    "mobilesamv2-tinyvit": "mobile-sam",  # whose tensors have other values, but the same names
}
"""By model, the file."""


def meta(name: str) -> Sam:
    """The network without weights."""
    row = SAMS[name]
    with torch.device("meta"):
        model: Sam = row.load()(**row.options).build()
    return model


@pytest.mark.parametrize("name", list_sams())
def test_layout_is_the_official_one(name: str) -> None:
    model = meta(name)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    check_state_dict(model.from_checkpoint(official_layout(name)), expected, name)


@pytest.mark.parametrize("name", ["slimsam-50", "slimsam-77"])
def test_the_authors_layout_loads_too(name: str) -> None:
    model = meta(name)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    check_state_dict(model.from_checkpoint(official_layout(f"{name}-sam")), expected, name)


@pytest.mark.parametrize("name", ["mobile-sam", "repvit-sam", "edge-sam", "efficient-sam-ti", "nanosam"])
def test_folded_weights_load_and_compute_the_same(name: str) -> None:
    state = official_weights(name)
    trained, folded = (SamSource(SAMS[name], state).load().eval() for _ in range(2))
    folded = SamSource(SAMS[name], fold_norms(folded).state_dict()).load().eval()
    side = min(8 * folded.multiple, folded.input_size)
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        same(folded.image_encoder(pixels).numpy(), trained.image_encoder(pixels).numpy(), name)


@pytest.mark.parametrize("name", list_sams())
def test_parameters_are_as_published(name: str) -> None:
    model = meta(name)
    parameters = f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f} M"
    assert DOCUMENTED.get(name) == f"{parameters} | {model.input_size}", "in the README's table of models"
    assert SAMS[name].summary.startswith(f"{parameters} parameters") or " M parameters" not in SAMS[name].summary


def test_every_family_has_a_reference() -> None:
    assert {SAMS[name].target for name in REFERENCES} == {row.target for row in SAMS.values()}


@pytest.mark.parametrize("name", REFERENCES)
def test_outputs_equal_the_reference(name: str) -> None:
    sam = build_sam(name, official_weights(name))
    photo = np.array(Pil.open(REFERENCE / "photo.webp").convert("RGB"))
    sam.set_image(photo)
    kinds = {name: {}} if name == "nanosam4" else KINDS
    with np.load(REFERENCE / f"{REFERENCES[name]}.npz") as reference:
        if "input" in reference:
            same(sam.prepare(photo).pixels[:, :, ::16, ::16].numpy(), reference["input"], "input")
        same(sam.image_embedding[:, ::16, ::8, ::8].numpy(), reference["embedding"], "embedding")
        for case, prompts in CASES.items():
            for kind in (kind for kind in kinds if f"{case}/{kind}/iou" in reference):
                ours = sam.predict(**prompts, **kinds[kind])
                same(ours.low_res_masks[:, :, ::8, ::8], reference[f"{case}/{kind}/low_res"], f"{case} {kind} masks")
                same(ours.predicted_iou, reference[f"{case}/{kind}/iou"], f"{case} {kind} IoU")
                if f"{case}/{kind}/masks" in reference:
                    full = np.unpackbits(reference[f"{case}/{kind}/masks"], axis=-1).astype(bool)
                    assert (full != ours.masks[0]).sum() < 5  # logits near 0 fall on either side


def test_the_early_feature_equals_the_reference() -> None:
    encoder = SamSource(SAMS["light-hq-sam"], official_weights("light-hq-sam")).load().eval().image_encoder
    photo = np.array(Pil.open(REFERENCE / "photo.webp").convert("RGB"))
    with torch.inference_mode(), np.load(REFERENCE / "light-hq-sam.npz") as reference:
        same(encoder.with_early(preprocess(photo, 1024))[1][:, ::16, ::8, ::8].numpy(), reference["early"], "early")


def same(ours: np.ndarray, reference: np.ndarray, what: str) -> None:
    error = np.linalg.norm(ours - reference) / np.linalg.norm(reference)
    assert ours.shape == reference.shape and error < TOLERANCE, f"{what}: {error:.1e}"
