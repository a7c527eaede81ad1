"""How MobileSAMv2's own script finds boxes (arXiv 2312.09579; its Inference.py), written out: letterbox, network,
suppression, sides near the border of the letterbox moved onto it, and back to the photograph.

It differs in one thing: the script hands RGB to a reader that expects BGR, so that its network sees blue for red.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch


@torch.inference_mode()
def boxes(weights: Path, rgb: np.ndarray, *, longest: int = 1024) -> np.ndarray:
    """N x 4 xyxy pixels of the photograph, best score first."""
    from ultralytics.utils.nms import non_max_suppression

    height, width = rgb.shape[:2]
    scale = longest / max(height, width)
    h, w = round(height * scale), round(width * scale)
    inner = cv2.resize(rgb, (w, h), interpolation=cv2.INTER_LINEAR)
    full_h, full_w = -(-h // 32) * 32, -(-w // 32) * 32
    top, left = round((full_h - h) / 2 - 0.1), round((full_w - w) / 2 - 0.1)
    letterbox = np.full((full_h, full_w, 3), 114, np.uint8)
    letterbox[top : top + h, left : left + w] = inner
    model: Any = torch.load(weights, weights_only=False)["model"]
    raw = model.float().eval()(torch.from_numpy(letterbox).permute(2, 0, 1)[None].float() / 255)
    (found,) = non_max_suppression(raw[0][0] if isinstance(raw[0], tuple) else raw[0], 0.4, 0.9, max_det=300, nc=1)
    result = []
    for x0, y0, x1, y1 in found[:, :4].tolist():
        x0, y0 = 0 if x0 < 20 else x0, 0 if y0 < 20 else y0
        x1, y1 = full_w if x1 > full_w - 20 else x1, full_h if y1 > full_h - 20 else y1
        box = [(x0 - left) / scale, (y0 - top) / scale, (x1 - left) / scale, (y1 - top) / scale]
        result.append(np.clip(box, 0, [width, height, width, height]))
    return np.array(result)
