"""TinySAM's hierarchical search against its authors' code: what is asked, and what is kept, both in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support.everything_scene import found_by, points_of
from support.seeded import REFERENCE
from torch import Tensor

from pipelines import rle
from pipelines.everything.config import PRESETS, HierarchicalConfig
from pipelines.everything.hierarchical import ask_hierarchical
from pipelines.sam.axis import Axis
from pipelines.sam.conventions import Conventions
from pipelines.sam.encoded import Encoded
from pipelines.sam.frame import Fit
from pipelines.sam.masks import Upscaler
from pipelines.sam.model import Features
from pipelines.sam.network import Prompts
from pipelines.sam.predictor import Prepared, SamPredictor
from pipelines.types import Image, Instances

TINYSAM = HierarchicalConfig(**PRESETS["tinysam"])


@dataclass(frozen=True)
class Discs:
    """What answers clicks without a network: a click on discs, rows (x, y, radius), belongs to the smallest, and each
    of its masks is a cone, height x width logits. Notes every click.
    """

    discs: np.ndarray
    height: int
    width: int
    asked: list[tuple[float, float]]

    def decode(self, prompts: Prompts) -> Cones:
        assert prompts.points is not None
        clicks = prompts.points[:, 0].double().numpy()
        self.asked.extend(map(tuple, clicks.tolist()))
        return Cones(self, clicks)


@dataclass(frozen=True)
class Cones:
    """The answer to N clicks, (x, y) pixels of the image."""

    scene: Discs
    clicks: np.ndarray

    @property
    def iou(self) -> Tensor:
        return torch.tensor([[0, *self._ious(x, y)] for x, y in self.clicks], dtype=torch.float32)

    def take(self, prompts: Tensor) -> Cones:
        return Cones(self.scene, self.clicks[prompts.numpy()])

    def masks(self, which: Tensor) -> Tensor:
        return torch.stack([torch.stack([self._cone(x, y, int(token)) for token in tokens])
                            for (x, y), tokens in zip(self.clicks, which, strict=True)])  # fmt: skip

    def _disc(self, x: float, y: float) -> np.ndarray | None:
        holding = [disc for disc in self.scene.discs if (x - disc[0]) ** 2 + (y - disc[1]) ** 2 <= disc[2] ** 2]
        return min(holding, key=lambda disc: disc[2], default=None)

    def _ious(self, x: float, y: float) -> list[float]:
        if self._disc(x, y) is None:
            return [0.5] * 3
        return [iou + 1e-6 * ((int(4 * x) * 7919 + int(4 * y) * 104729) % 9973) for iou in (0.80, 0.95, 0.90)]

    def _cone(self, x: float, y: float, token: int) -> Tensor:
        disc, rows, columns = self._disc(x, y), *np.mgrid[: self.scene.height, : self.scene.width].astype(np.float64)
        if disc is None:
            return torch.full(rows.shape, -10.0)
        scale = (0.6, 1.0, 1.4)[token - 1]
        logits = (float(disc[2]) * scale - np.hypot(columns - disc[0], rows - disc[1])) * 5
        return torch.from_numpy(logits.astype(np.float32))


class Network:
    """What a predictor asks of a network, of images that all are these discs. The prompt frame is the image's own."""

    input_size = 640
    conventions = Conventions(fit=Fit(size=lambda height, width, side: (height, width)))
    most_prompts = None
    prompt_sizes = ()
    device = torch.device("cpu")

    def __init__(self, scene: Discs) -> None:
        self.scene = scene

    def encode(self, pixels: Tensor) -> Features:
        return (torch.zeros(len(pixels), 256, 64, 64),)

    def images(self, features: Features) -> Discs:
        return self.scene


class AtSize(Encoded):
    """Images whose masks come in their own size."""

    @property
    def upscaler(self) -> Upscaler:
        upscaler = super().upscaler
        upscaler.rows, upscaler.columns = (
            Axis(torch.eye(side), list(range(side)), list(range(side))) for side in upscaler.size
        )
        return upscaler


class Predictor(SamPredictor):
    def encode(self, images: Sequence[Prepared]) -> Encoded:
        return AtSize(**vars(super().encode(images)))


def searched(size: str, discs: np.ndarray, config: HierarchicalConfig) -> tuple[Instances, np.ndarray]:
    """What is found in an image of that size, "height x width", and the clicks that were asked."""
    height, width = map(int, size.split("x"))
    scene = Discs(discs, height, width, [])
    image = Image("ramp", np.zeros((height, width, 3), np.uint8) + np.arange(width, dtype=np.uint8)[:, None])
    return found_by(Predictor("discs", Network(scene)), image, config, ask_hierarchical), np.array(scene.asked)


@pytest.fixture(scope="module")
def reference() -> Mapping[str, np.ndarray]:
    with np.load(REFERENCE / "tinysam-everything.npz") as file:
        return dict(file)


@pytest.mark.parametrize("size", ["480x640", "427x500"])
def test_clicks_and_masks_are_the_authors(size: str, reference: Mapping[str, np.ndarray]) -> None:
    found, asked = searched(size, reference["discs"], TINYSAM)
    assert len(asked) == reference[f"{size}/asked"]
    np.testing.assert_allclose(asked[::4], reference[f"{size}/points"], atol=1e-9)
    ours = {
        "bbox": [rle.bbox(mask) - np.array([0, 0, 1, 1]) for mask in found.rles],
        "area": [rle.area(mask) for mask in found.rles],
        "predicted_iou": found.masks.predicted_iou,
        "stability_score": found.masks.stability_score,
        "point": points_of(found),
    }
    for what, values in ours.items():
        np.testing.assert_allclose(values, reference[f"{size}/{what}"], rtol=0, atol=1e-6, err_msg=what)
