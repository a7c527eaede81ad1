"""Deterministic stand-ins: weights drawn from each tensor's own name, and a picture drawn from a formula.

Implementations with the same key names and shapes then hold the same weights, whoever wrote them. The reference
outputs that evsam was first checked against were made with the same rule.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.sam import SAMS, build_sam
from pipelines.sam.network import SamSource
from pipelines.sam.predictor import SamPredictor

REFERENCE = Path(__file__).parents[1] / "reference"
"""Outputs and layouts that are not evsam's own, see the README there."""


def weights_for(model: nn.Module) -> dict[str, Tensor]:
    """A full state dict for `model`: scaled normal draws, seeded by the CRC-32 of each key."""
    return {key: _draw(key, value) for key, value in model.state_dict().items()}


def _draw(key: str, like: Tensor) -> Tensor:
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    x: np.ndarray = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(like.shape), dtype=np.float32)
    if key.endswith("running_var"):
        x = 1 + 0.1 * np.abs(x)
    elif like.ndim >= 2 and not key.endswith("running_mean"):
        x = x / np.sqrt(np.prod(like.shape[1:]), dtype=np.float64)
    elif key.endswith("weight"):
        x = 1 + 0.1 * x
    else:
        x = 0.1 * x
    return torch.from_numpy(np.ascontiguousarray(x, np.float32))


def official_layout(name: str) -> dict[str, Tensor]:
    """Tensors without content, as the official checkpoint of `name` names and shapes them."""
    shapes = _layout(json.loads(gzip.decompress((REFERENCE / "layouts.json.gz").read_bytes())), name)
    return {
        key: torch.empty(
            shape, dtype=torch.int64 if key.endswith("num_batches_tracked") else torch.float32, device="meta"
        )
        for key, shape in shapes.items()
    }


SAME_NETWORK = {
    "edge-sam-3x": "edge-sam",
    "nanosam4": "nanosam",
    "mobilesamv2": "efficientvit-sam-l2",
    "mobilesamv2-tinyvit": "mobile-sam",
}


def _layout(known: Mapping[str, dict[str, list[int]]], name: str) -> dict[str, list[int]]:
    """Of a model whose layout is not known itself, as others have it: of the same network, or of the same decoder."""
    if name in known:
        return known[name]
    if name in SAME_NETWORK:
        return known[SAME_NETWORK[name]]
    plain, base = known[name.replace("-hq", "")], known["sam-vit-b"]
    detail = {key: shape for key, shape in known["sam-hq-vit-b"].items() if key not in base}
    early = {"mask_decoder.compress_vit_feat.0.weight": [plain["image_encoder.pos_embed"][-1], 256, 2, 2]}
    return plain | detail | early


def official_weights(name: str) -> dict[str, Tensor]:
    """Seeded weights in the official checkpoint's layout."""
    return {key: _draw(key, value) for key, value in official_layout(name).items()}


def seeded_predictor(name: str) -> SamPredictor:
    """The model under its seeded weights."""
    return build_sam(name, weights_for(SamSource(SAMS[name]).build()))


def picture(height: int = 300, width: int = 400) -> np.ndarray:
    """An H x W x 3 uint8 picture with soft gradients and hard edges."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    red = 127 + 120 * np.sin(x / 23) * np.cos(y / 31)
    green = 255 * (((x - 0.6 * width) ** 2 + (y - 0.4 * height) ** 2) < (0.25 * height) ** 2)
    blue = 255 * x / width * (y > 0.7 * height) + 60
    return np.stack([red, green, blue], axis=2).clip(0, 255).astype(np.uint8)
