"""SAM's own encoder: a small one, against the implementation in transformers."""

from __future__ import annotations

import torch
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from pipelines.sam.encoders.vit import Vit, VitEncoder

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


def test_encoder_equals_transformers() -> None:
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
    ours = VitEncoder(Vit(width=32, depth=3, heads=2, whole=(1,), window=4, grid=10)).eval()
    ours.load_state_dict({official(key): value for key, value in theirs.state_dict().items()})
    pixels = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(99))
    with torch.inference_mode():
        torch.testing.assert_close(ours(pixels), theirs(pixels).last_hidden_state, rtol=1e-4, atol=1e-4)
