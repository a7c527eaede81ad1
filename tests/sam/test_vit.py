"""SAM's own encoder: a small one, against the implementation in transformers, and against itself in training."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from pipelines.sam.encoders.vit import Attention, Vit, VitEncoder

NAMES = {
    "layers.": "blocks.",
    "layer_norm": "norm",
    "patch_embed.projection": "patch_embed.proj",
    "neck.conv1": "neck.0",
    "neck.norm1": "neck.1",
    "neck.conv2": "neck.2",
    "neck.norm2": "neck.3",
}
"""From transformers' names to the official checkpoints'."""


def official(key: str) -> str:
    for theirs, name in NAMES.items():
        key = key.replace(theirs, name)
    return key


@pytest.fixture(scope="module")
def theirs() -> SamVisionEncoder:
    config = SamVisionConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=160,
        patch_size=16,
        window_size=4,  # 10 x 10 patches do not divide into windows
        global_attn_indexes=[1],
        mlp_dim=128,
        attn_implementation="eager",
    )
    theirs = SamVisionEncoder(config).eval()
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) / 4)
    return theirs


PIXELS = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(99))


@pytest.mark.parametrize("training", [False, True])
def test_encoder_equals_transformers(theirs: SamVisionEncoder, training: bool) -> None:
    ours = VitEncoder(Vit(width=32, depth=3, heads=2, whole=(1,), window=4, grid=10)).train(training)
    ours.load_state_dict({official(key): value for key, value in theirs.state_dict().items()})
    with torch.inference_mode():
        torch.testing.assert_close(ours(PIXELS), theirs(PIXELS).last_hidden_state, rtol=1e-4, atol=1e-4)


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that was made."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        tensors = made if isinstance(made, tuple) else (made,)
        self.numbers = max([self.numbers, *(x.numel() for x in tensors if isinstance(x, torch.Tensor))])
        return made


@pytest.fixture(scope="module")
def attention() -> Attention:
    """In 16 x 16 places, its two heads with far more bias than content."""
    attention = Attention(32, 2, 16).requires_grad_(False)
    draws = torch.Generator().manual_seed(0)
    for table in (attention.rel_pos_h, attention.rel_pos_w):
        table.normal_(std=2, generator=draws)
    return attention


PLACES = torch.randn(1, 16, 16, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [False, True])
def test_the_bias_is_there_in_full_in_training_alone(attention: Attention, training: bool) -> None:
    with Largest() as largest:
        attention.train(training)(PLACES)
    assert (largest.numbers >= 2 * 256**2) == training


def test_in_bf16_inference_rounds_less_than_training(attention: Attention) -> None:
    half, places = deepcopy(attention).bfloat16(), PLACES.bfloat16()
    exact = deepcopy(half).double()(places.double())
    rounded = {flag: float((half.train(flag)(places) - exact).norm()) for flag in (True, False)}
    assert rounded[False] < 0.8 * rounded[True]
