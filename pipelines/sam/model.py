"""The whole network: image encoder, prompt encoder, mask decoder, under the official checkpoints' key names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.sam.encoders.efficientvit import CONFIGS, EfficientViTEncoder
from pipelines.sam.mask_decoder import MaskDecoder
from pipelines.sam.prompt_encoder import PromptEncoder
from weights.loading import check_state_dict


class Sam(nn.Module):
    """The trainable network. `input_size`: side of the encoder's square input in pixels."""

    def __init__(self, image_encoder: nn.Module, input_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.image_encoder = image_encoder
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder()

    def forward(
        self,
        pixels: Tensor,
        index: Tensor,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Train or run on B images at once: all four masks of every prompt.

        pixels: B x 3 x S x S, normalised and padded. index: N, the image of each prompt. points, labels, boxes, masks:
        as in PromptEncoder, in the 1024 frame. Returns low-res logits N x 4 x 4G x 4G and predicted IoU N x 4.
        """
        embedding = self.image_encoder(pixels)
        pe = self.prompt_encoder.dense_pe(embedding.shape[-1])
        prompts = self.prompt_encoder(points, labels, boxes, masks)
        if masks is not None:
            embedding, index = embedding[index], torch.arange(len(index), device=index.device)
        low_res, iou = self.mask_decoder(embedding + prompts.dense, pe, prompts.sparse, index)
        return low_res, iou


@dataclass(frozen=True)
class Architecture:
    """What `build_model` needs: a row of CONFIGS and the side of the encoder's input in pixels."""

    config: str
    input_size: int

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""
        return Sam(EfficientViTEncoder(CONFIGS[self.config], self.input_size), self.input_size)


def load(model: Sam, state: dict[str, Tensor], name: str) -> Sam:
    """Fill `model` from an official state dict: every key and shape must match, else WeightsError."""
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    check_state_dict(state, expected, name)
    model.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    return model
