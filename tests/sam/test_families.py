"""What every family of the zoo has that EfficientViT-SAM has: batches, half precision, every row on every path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.families import FAMILIES, row
from support.seeded import weights_for
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines import rle
from pipelines.evaluation.miou import iou
from pipelines.sam import SAMS
from pipelines.sam.model import Sam
from pipelines.sam.network import Prompts, SamSource
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.prompting import PixelPrompts
from pipelines.sam.torch_network import TorchBackend, TorchNetwork

ASKED = (
    PixelPrompts(boxes=np.array([[40, 30, 200, 220], [5, 5, 60, 50]])),
    PixelPrompts(boxes=np.array([[20, 10, 90, 190]])),
)


def predictor(builder: Callable[[], Sam], precision: str = "fp32") -> SamPredictor:
    source = SamSource(row(builder), weights_for(builder()))
    return SamPredictor(builder.__name__, TorchBackend().build(source, device="cpu", precision=precision))


@pytest.mark.parametrize("builder", FAMILIES)
def test_images_together_get_the_masks_that_each_gets_alone(
    builder: Callable[[], Sam], shown: list[np.ndarray]
) -> None:
    sam = predictor(builder)
    images = [sam.prepare(pixels) for pixels in (shown[0], shown[0][:150, ::-1].copy())]
    together = sam.encode(images).segment(ASKED)
    for image, asked, got in zip(images, ASKED, together, strict=True):
        (wanted,) = sam.encode([image]).segment([asked])
        np.testing.assert_allclose(got.predicted_iou, wanted.predicted_iou, rtol=1e-4, atol=1e-5)
        for a, b in zip(got.upscale().rles, wanted.upscale().rles, strict=True):
            assert rle.area(b) and iou(a, b) > 0.999


class Norms(TorchDispatchMode):
    """What norms over rows are computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket in (torch.ops.aten.layer_norm, torch.ops.aten.native_layer_norm):
            self.seen.add(args[0].dtype)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("builder", FAMILIES)
def test_half_precision_keeps_norms_in_float32(builder: Callable[[], Sam], shown: list[np.ndarray]) -> None:
    exact = predictor(builder)
    exact.set_image(shown[0])
    for precision, most in (("bf16", 0.05), ("fp16", 0.01)):
        half = predictor(builder, precision)
        with Norms() as norms:
            half.set_image(shown[0])
            got = half.predict(boxes=ASKED[0].boxes)
        assert norms.seen == {torch.float32}
        assert error(half.image_embedding, exact.image_embedding) < most
        assert np.isfinite(got.low_res_masks).all()


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got.float() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", SAMS)
def test_every_row_answers_prompts_on_images(name: str) -> None:
    """On tensors without content, which cost nothing; its encoder is walked where its cost is counted."""
    with FakeTensorMode(), torch.inference_mode():
        network = TorchNetwork(SamSource(SAMS[name]).build().eval(), torch.device("cpu"))
        features = [torch.empty(2, *shape) for shape in ((256, 64, 64), *network.model.beside.values())]
        images, points = network.images(tuple(features)), torch.empty(3, 2, 2)
        for prompts in (
            Prompts(boxes=torch.empty(3, 4), images=(0, 0, 1)),
            Prompts(points, labels=torch.ones(3, 2), images=(1, 1, 1)),
        ):
            decoded = images.decode(prompts)
            assert decoded.iou.shape == (3, 4)
            assert decoded.masks(torch.zeros(3, 1, dtype=torch.long)).shape == (3, 1, 256, 256)
