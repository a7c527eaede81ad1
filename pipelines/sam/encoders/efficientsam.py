"""EfficientSAM (arXiv 2312.00863): a small plain vision transformer, pretrained to imitate SAM's, with SAM's neck; a
prompt encoder that sees six points, always; and SAM's decoder with other norms, activations and residuals.

Names in the official checkpoints, https://github.com/yformer/EfficientSAM, are turned into those of SAM's parts.

Shapes: B images, G x G patches in each, C channels; N prompts, P points, T tokens of a prompt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.errors import UsageError
from pipelines.sam.conventions import Conventions
from pipelines.sam.encoders.vit import Vit, VitEncoder
from pipelines.sam.frame import Fit, bilinear_without_average, squeezed
from pipelines.sam.layers import TORCH_EPS, resize
from pipelines.sam.mask_decoder import MaskDecoder, TwoWayLayer
from pipelines.sam.model import Sam
from pipelines.sam.points import CORNERS, PADDING, always_six
from pipelines.sam.prompt_encoder import PROMPT_SIDE, PointEncoder

PRETRAINED = 14
"""Side of the grid of patches that the positions were pretrained on, after one for a class."""


def _config(width: int, heads: int) -> Vit:
    return Vit(width=width, depth=12, heads=heads, whole=tuple(range(12)), relative=False)


CONFIGS = {"ti": _config(192, 3), "s": _config(384, 6)}
CONVENTIONS = Conventions(
    fit=Fit(squeezed, bilinear_without_average, direct=True, upscaling="bicubic"), points=always_six
)

OFFICIAL = (
    (r"^image_encoder\.(.*)\.mlp\.fc", r"image_encoder.\1.mlp.lin"),
    (r"\.mlp\.layers\.0\.0\.", ".mlp.lin1."),
    (r"\.mlp\.fc\.", ".mlp.lin2."),
    (r"(mlps\.\d|head)\.layers\.(\d)\.0\.", r"\1.layers.\2."),
    (r"(mlps\.\d|head)\.fc\.", r"\1.layers.2."),
    (r"\.final_output_upscaling_layers\.0\.", ".output_upscaling."),
    (r"\.final_output_upscaling_layers\.1\.0\.", ".output_upscaling.3."),
)
"""From the names of the official checkpoints to those of SAM's parts."""


@dataclass(frozen=True)
class Architecture:
    """A row of CONFIGS."""

    config: str

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""
        config = CONFIGS[self.config]
        return Sam(
            PretrainedVitEncoder(config),
            config.grid * config.patch,
            prompt_encoder=SixPoints(),
            mask_decoder=EfficientMaskDecoder(),
            from_checkpoint=official,
            conventions=CONVENTIONS,
        )


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names for those of the official files; our own stay."""
    named = {}
    for key, value in state.items():
        name = key
        for pattern, replacement in OFFICIAL:
            name = re.sub(pattern, replacement, name)
        named[name] = value
    return named


class PretrainedVitEncoder(VitEncoder):
    """As VitEncoder, with positions of another grid, which are resized; in inference once for all."""

    def __init__(self, config: Vit) -> None:
        super().__init__(config)
        self.grid = config.grid
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + PRETRAINED**2, config.width))

    def positions(self) -> Tensor:
        if self.pos_embed.ndim == 4:
            return self.pos_embed
        pretrained = self.pos_embed[:, 1:].unflatten(1, (PRETRAINED, PRETRAINED)).permute(0, 3, 1, 2)
        return resize(pretrained, self.grid).permute(0, 2, 3, 1)

    def fold_norm(self) -> None:
        """Resize the positions, for inference. Does nothing the second time."""
        self.pos_embed = nn.Parameter(self.positions().detach().contiguous())


class SixPoints(PointEncoder):
    """Points to embeddings: one off the object has its position alone; padding has one, and is something, too."""

    def __init__(self) -> None:
        super().__init__(always_six)
        self.invalid_points = nn.Embedding(1, 256)
        self.point_embeddings = nn.Embedding(1, 256)
        self.bbox_top_left_embeddings = nn.Embedding(1, 256)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, 256)

    def embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        kinds = {
            PADDING: self.invalid_points,
            1: self.point_embeddings,
            CORNERS[0]: self.bbox_top_left_embeddings,
            CORNERS[1]: self.bbox_bottom_right_embeddings,
        }
        embedded = self.position((points + 0.5) / PROMPT_SIDE)
        for label, kind in kinds.items():
            embedded = embedded + (labels == label)[..., None] * kind.weight
        return embedded

    def embed_masks(self, masks: Tensor) -> Tensor:
        raise UsageError("EfficientSAM takes no mask prompts: give boxes or points")


class EfficientLayer(TwoWayLayer):
    """Whatever the tokens attend with is in the residual, too."""

    def among_prompts(self, prompts: Tensor) -> Tensor:
        return prompts + self.self_attn(prompts, prompts, prompts)

    def among_tokens(self, tokens: Tensor, prompts: Tensor) -> Tensor:
        return self.among_prompts(tokens + prompts)


class EfficientMaskDecoder(MaskDecoder):
    """As MaskDecoder, with GELU everywhere and one group norm over channels and places."""

    def __init__(self) -> None:
        super().__init__(TORCH_EPS, F.gelu, EfficientLayer)
        self.output_upscaling[1] = nn.GroupNorm(1, 64)

    def norm_upscaled(self, rows: Tensor) -> Tensor:
        norm = self.output_upscaling[1]
        assert isinstance(norm, nn.GroupNorm)
        x = F.layer_norm(rows.float(), rows.shape[1:], eps=norm.eps)
        return (x * norm.weight.float() + norm.bias.float()).to(rows.dtype)
