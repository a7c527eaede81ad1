"""Mask and IoU losses of SAM (arXiv 2304.02643, appendix A) and EfficientViT-SAM (arXiv 2402.05008, section 3.2).

Shapes: N prompts, M masks per prompt, S x S low-res masks. Targets are coverage, 0 to 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.training.config import StageConfig

_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss (arXiv 1708.02002), averaged over pixels: N x M x S x S logits, N x 1 x S x S target -> N x M."""
    chance = logits.sigmoid()
    hit = chance * target + (1 - chance) * (1 - target)
    alpha = _FOCAL_ALPHA * target + (1 - _FOCAL_ALPHA) * (1 - target)
    entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    return (alpha * (1 - hit) ** _FOCAL_GAMMA * entropy).flatten(2).mean(2)


def bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over pixels; shapes as `focal_loss`."""
    return F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none").flatten(2).mean(2)


def near_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over the target's box grown by half its size and two pixels on each side.

    The other terms hardly see a small object's mask spill over its box; here every object counts alike. Shapes as
    `focal_loss`.
    """
    window = _grown(target.amax(2) > 0)[:, :, None, :] * _grown(target.amax(3) > 0)[:, :, :, None]
    entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    return (entropy * window).flatten(2).sum(2) / window.flatten(2).sum(2).clamp(min=1)


def _grown(occupied: Tensor) -> Tensor:
    """N x 1 x S bool -> N x 1 x S float, 1 on the span of True grown by half its length and 2 on each side."""
    at = torch.arange(occupied.shape[-1], device=occupied.device)
    first = torch.where(occupied, at, occupied.shape[-1]).amin(-1, keepdim=True)
    last = torch.where(occupied, at, -1).amax(-1, keepdim=True)
    margin = (last - first + 1) / 2 + 2
    return ((at >= first - margin) & (at <= last + margin)).float()


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - (2 overlap + 1) / (sum of both + 1); shapes as `focal_loss`."""
    chance, target = logits.sigmoid().flatten(2), target.flatten(2)
    return 1 - (2 * (chance * target).sum(2) + 1) / (chance.sum(2) + target.sum(2) + 1)


def mask_loss(logits: Tensor, target: Tensor, stage: StageConfig) -> Tensor:
    """The stage's weighted sum of the terms: N x M x S x S logits, N x S x S target -> N x M."""
    terms = ((stage.focal, focal_loss), (stage.bce, bce_loss), (stage.near, near_loss), (stage.dice, dice_loss))
    total = logits.new_zeros(logits.shape[:2])
    for weight, term in terms:
        if weight:
            total = total + weight * term(logits, target[:, None])
    return total


def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the masks (logit > 0, target > 0.5): N x M x S x S and N x S x S -> N x M, no gradient."""
    with torch.no_grad():
        predicted, actual = logits > 0, (target > 0.5)[:, None]
        overlap = (predicted & actual).flatten(2).sum(2)
        union = (predicted | actual).flatten(2).sum(2)
        return overlap / union.clamp(min=1)
