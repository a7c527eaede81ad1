"""YOLOv8 and its relatives (YOLOv3u to YOLO26), run by ultralytics: a .pt checkpoint or an exported .onnx.

The steps are those of `YOLO.predict` on one image, and give its boxes: letterbox to the smallest rectangle,
forward, non-maximum suppression, boxes back to the image. Only images of one letterboxed shape share a forward
pass, so that what an image is searched with does not depend on its neighbours. On a CPU none share one, and results
are the same to the last bit; on a GPU, to float noise.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401  ultralytics uses its suppression kernel, but only where it is imported

from pipelines.boxes import has_area
from pipelines.categories import from_names, select
from pipelines.detectors import DetectorConfig, quiet_ultralytics
from pipelines.detectors.checkpoint import read_checkpoint
from pipelines.device import check_device
from pipelines.errors import EvsamError, SetupError, WeightsError
from pipelines.onnx_files import files_beside, quiet_onnxruntime
from pipelines.types import Detections, Image, UInt8, check_finite

ultralytics: Any = quiet_ultralytics  # untyped
_GPU_BATCH = 16


class Yolo:
    """Boxes of an ultralytics detection model, in fp32. `categories` follow the model's own class order."""

    def __init__(self, weights: Path, config: DetectorConfig, *, device: str = "cpu", snap: int = 0) -> None:
        """weights: a .pt or .onnx file. snap: see `snapped`. Raises as `pipelines.detectors.build_detector` does."""
        self._config = config
        self._snap = snap
        self._device = check_device(device)
        self._model, names = _load(weights.absolute(), self._device)
        self.categories = from_names(names)
        self.batch = 1 if self._device.type == "cpu" else _GPU_BATCH
        self._classes = select(self.categories, config.classes) or None
        self._category_ids = np.array([category.id for category in self.categories], np.int64)
        flexible = _is_flexible(self._model)
        size = (config.imgsz or getattr(self._model.model, "trained_size", 640)) if flexible else self._model.imgsz
        size = ultralytics.check_imgsz(size, stride=self._model.stride, min_dim=2)
        self._letterbox = ultralytics.LetterBox(size, auto=flexible, stride=self._model.stride)

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """One Detections per image; boxes are clipped to it, and those left without area are dropped.

        Raises ImageError.
        """
        letterboxed: list[UInt8] = [self._letterbox(image=image.pixels) for image in images]
        same_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, pixels in enumerate(letterboxed):
            same_shape[pixels.shape].append(index)
        found: dict[int, Detections] = {}
        for shape, indices in same_shape.items():
            for start in range(0, len(indices), self.batch):
                together = indices[start : start + self.batch]
                rows, reasons = self._forward(np.stack([letterboxed[index] for index in together]))
                for index, row, reason in zip(together, rows, reasons, strict=True):
                    found[index] = (
                        self._detections(row, shape, images[index]) if reason is None else Detections.empty(reason)
                    )
        return [found[index] for index in range(len(images))]

    @torch.inference_mode()
    def _forward(self, pixels: UInt8) -> tuple[list[torch.Tensor], list[str | None]]:
        """B x H x W x 3 -> per image N x 6: xyxy in the letterbox, score, class index, best score first; and why there
        are none, where there are none.

        Raises ImageError for an answer that holds other than finite numbers.
        """
        batch = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).contiguous().float().div_(255)
        output = self._model(batch)
        candidates = output[0] if isinstance(output, list | tuple) else output
        check_finite("a box or a score", bool(torch.isfinite(candidates).all()))  # suppression drops those in silence
        rows: list[torch.Tensor] = ultralytics.non_max_suppression(
            output,
            conf_thres=self._config.conf,
            iou_thres=self._config.iou,
            classes=self._classes,
            max_det=self._config.max_det,
            max_time_img=float("inf"),  # its default leaves images of a batch out when a busy machine is slow
            end2end=self._model.end2end,
        )
        candidates = output[0] if isinstance(output, list | tuple) else output
        reasons = [None if len(row) else self._why_none(raw) for row, raw in zip(rows, candidates, strict=True)]
        return [row[row[:, 4].argsort(descending=True, stable=True)] for row in rows], reasons

    def _why_none(self, candidates: torch.Tensor) -> str:
        """candidates: (4 + classes) x A, or of an end-to-end model A x 6, for one image."""
        chosen = torch.tensor(self._classes or range(len(self.categories)), device=candidates.device)
        if self._model.end2end:
            scores, count = candidates[:, 4], len(candidates)
            own = scores[torch.isin(candidates[:, 5].long(), chosen)]
        else:
            scores, count = candidates[4:], candidates.shape[1]
            own = scores[chosen]
        conf, best, of_all = (
            self._config.conf or 0.0,
            *(float(each.max()) if each.numel() else 0.0 for each in (own, scores)),
        )
        if self._classes and of_all > conf:
            return (
                f"none of the chosen classes scored more than {conf:g}, others up to {of_all:.2g}: --classes or --conf"
            )
        return f"of {count:,} candidates none scored more than {conf:g}; the best had {best:.2g}: --conf"

    def _detections(self, rows: torch.Tensor, shape: tuple[int, ...], image: Image) -> Detections:
        boxes = snapped(rows[:, :4], shape[0], shape[1], self._snap) if self._snap else rows[:, :4].clone()
        boxes = ultralytics.scale_boxes(shape[:2], boxes, image.pixels.shape).cpu().numpy()
        scores, classes = rows[:, 4].cpu().numpy(), rows[:, 5].cpu().numpy().astype(np.int64)
        keep = has_area(boxes)
        if not keep.any():
            return Detections.empty(f"of {len(boxes)} boxes none covers anything of the image")
        return Detections(boxes[keep], scores[keep], self._category_ids[classes[keep]])


def snapped(boxes: torch.Tensor, height: int, width: int, near: int) -> torch.Tensor:
    """N x 4 xyxy in a height x width letterbox -> the same, but sides less than `near` pixels from its border on it: a
    rule of FastSAM (arXiv 2306.12156) and MobileSAMv2.
    """
    size = boxes.new_tensor([width, height])
    start, end = boxes[:, :2], boxes[:, 2:]
    return torch.cat([start.masked_fill(start < near, 0), torch.where(end > size - near, size, end)], 1)


def _load(path: Path, device: torch.device) -> tuple[Any, list[str]]:
    """The model of a file as an AutoBackend, tried once, and its class names in order."""
    is_onnx = path.suffix.lower() == ".onnx"
    if is_onnx and importlib.util.find_spec("onnxruntime") is None:
        raise SetupError(f"{path.name} needs the package onnxruntime: install it with `pip install onnxruntime`")
    if is_onnx:
        files_beside(path)
        quiet_onnxruntime()
    try:
        model = ultralytics.AutoBackend(
            str(path) if is_onnx else read_checkpoint(path), device=device, verbose=False
        ).eval()
        names = [model.names[index] for index in range(len(model.names))]
        _try_out(model, len(names), device)
    except EvsamError:
        raise
    except Exception as error:  # a stranger's file can break anywhere in ultralytics
        raise WeightsError(
            f"{path} does not work as a detection model in ultralytics {ultralytics.__version__}: {error!r}"
        ) from error
    return model, names


def _is_flexible(model: Any) -> bool:
    """Whether an AutoBackend takes every input size that is a multiple of its stride."""
    return model.format == "pt" or bool(model.dynamic)


@torch.inference_mode()
def _try_out(model: Any, classes: int, device: torch.device) -> None:
    """Run a blank image. Raises ValueError when the output is not that of a detector of so many classes."""
    size = (model.stride, model.stride) if _is_flexible(model) else model.imgsz
    output = model(torch.zeros(1, 3, *size, device=device))
    output = output[0] if isinstance(output, list | tuple) else output
    if output.shape[1] != 4 + classes and output.shape[-1] != 6:
        raise ValueError(f"it names {classes} classes, but its output is {tuple(output.shape)}")
