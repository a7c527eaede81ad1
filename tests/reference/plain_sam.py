"""SAM's prompt-to-mask path written the plain way, step by step as in arXiv 2304.02643: what the fast one must equal.

It reads the weights of a `pipelines.sam.model.Sam` and shares no arithmetic with the decoder it checks: image tokens
are repeated for every prompt, every projection is applied to them, all masks are upscaled in two resizes, and the best
is picked at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as mask_utils
from torch import Tensor

from pipelines.sam.frame import Frame, resized
from pipelines.sam.model import Sam


def attention(module: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = module.q_proj(q), module.k_proj(k), module.v_proj(v)
    heads = [x.reshape(x.shape[0], x.shape[1], 8, -1).transpose(1, 2) for x in (q, k, v)]
    weights = torch.softmax(heads[0] @ heads[1].transpose(2, 3) / heads[0].shape[-1] ** 0.5, dim=-1)
    out = (weights @ heads[2]).transpose(1, 2)
    return module.out_proj(out.reshape(out.shape[0], out.shape[1], -1))


def norm(module: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, (256,), module.weight, module.bias, 1e-6)


def channel_norm(module: Any, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-6) * module.weight[:, None, None] + module.bias[:, None, None]


def decode(sam: Sam, embedding: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """All four low-res masks N x 4 x 256 x 256 and predicted IoU N x 4 for one image's prompts."""
    decoder, n = sam.mask_decoder, len(sparse)
    prompts = torch.cat(
        [torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(n, -1, -1), sparse], dim=1
    )
    grid = embedding.shape[-1]
    src = embedding.repeat(n, 1, 1, 1) + dense
    keys = src.flatten(2).permute(0, 2, 1)
    pe = sam.prompt_encoder.dense_pe(grid).repeat(n, 1, 1)
    queries = prompts
    layer: Any
    for i, layer in enumerate(decoder.transformer.layers):
        if i == 0:
            queries = attention(layer.self_attn, queries, queries, queries)
        else:
            q = queries + prompts
            queries = queries + attention(layer.self_attn, q, q, queries)
        queries = norm(layer.norm1, queries)
        queries = queries + attention(layer.cross_attn_token_to_image, queries + prompts, keys + pe, keys)
        queries = norm(layer.norm2, queries)
        queries = queries + layer.mlp.lin2(F.relu(layer.mlp.lin1(queries)))
        queries = norm(layer.norm3, queries)
        keys = keys + attention(layer.cross_attn_image_to_token, keys + pe, queries + prompts, queries)
        keys = norm(layer.norm4, keys)
    queries = queries + attention(decoder.transformer.final_attn_token_to_image, queries + prompts, keys + pe, keys)
    queries = norm(decoder.transformer.norm_final_attn, queries)
    x = keys.transpose(1, 2).reshape(n, 256, grid, grid)
    up: Any = decoder.output_upscaling
    x = F.gelu(channel_norm(up[1], F.conv_transpose2d(x, up[0].weight, up[0].bias, stride=2)))
    x = F.gelu(F.conv_transpose2d(x, up[3].weight, up[3].bias, stride=2))
    hyper = torch.stack([mlp(queries[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)
    low_res = (hyper @ x.flatten(2)).reshape(n, 4, 4 * grid, 4 * grid)
    return low_res, decoder.iou_prediction_head(queries[:, 0])


def upscale(low_res: Tensor, height: int, width: int) -> Tensor:
    """N x K x 256 x 256 -> N x K x height x width logits."""
    rows, columns = resized(height, width, 1024)
    x = F.interpolate(low_res, (1024, 1024), mode="bilinear", align_corners=False)[..., :rows, :columns]
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)


@torch.inference_mode()
def segment_boxes(
    sam: Sam, embedding: Tensor, boxes: np.ndarray, height: int, width: int, chunk: int = 64
) -> tuple[list[Tensor], list[float], list[Any]]:
    """Per box: logits of the best of three masks (height x width), its predicted IoU and its RLE."""
    frame = Frame(height, width)
    logits, ious, rles = [], [], []
    for start in range(0, len(boxes), chunk):
        part = torch.from_numpy(boxes[start : start + chunk]).reshape(-1, 2, 2)
        sparse, dense = sam.prompt_encoder(boxes=frame.to_prompt_frame(part).reshape(-1, 4))
        low_res, iou = decode(sam, embedding, sparse, dense)
        full = upscale(low_res[:, 1:], height, width)
        best = iou[:, 1:].argmax(1)
        for masks, scores, index in zip(full, iou[:, 1:], best, strict=True):
            logits.append(masks[index])
            ious.append(float(scores[index]))
            rles.append(mask_utils.encode(np.asfortranarray((masks[index] > 0).numpy().astype(np.uint8))))
    return logits, ious, rles
