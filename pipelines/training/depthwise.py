"""Depthwise convolutions are left in float32 by mixed precision on a CPU.

oneDNN's backward pass of them takes many times as long in bf16: for eight images of 64 channels, 128 x 128, stride 2,
76 ms where float32 takes 15; at 256 channels, 32 x 32, 27 and 1. That is a seventh of a whole training step.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn


def keep_depthwise_precise(encoder: nn.Module) -> None:
    """Make the depthwise convolutions of `encoder` leave autocast where that is the CPU's."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = partial(_convolve, module)  # type: ignore[method-assign]


def _convolve(module: nn.Conv2d, x: Tensor) -> Tensor:
    if x.is_cuda or not torch.is_autocast_enabled("cpu"):
        return nn.Conv2d.forward(module, x)
    with torch.autocast("cpu", enabled=False):
        return nn.Conv2d.forward(module, x.float())
