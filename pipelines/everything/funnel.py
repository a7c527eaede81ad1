"""What becomes of an image's masks on their way through the filters, so that an empty result can say why."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from pipelines.everything.config import GridConfig


@dataclass
class Funnel:
    """Counted as clicks are decoded. masks: of all clicks; likely: those above the predicted IoU wanted; stable: those
    of them with the stability score wanted, that cover something; whole: those of them not cut off by a crop.

    best_iou: the best predicted IoU of all; best_stability: the best stability score, or a bound of it, of the likely.
    """

    masks: int = 0
    likely: int = 0
    stable: int = 0
    whole: int = 0
    best_iou: float = -inf
    best_stability: float = 0.0

    def why_none(self, config: GridConfig) -> str:
        """Why no mask is left, where none is."""
        if not self.likely:
            limit = f"predicted IoU {config.pred_iou_thresh:g}; the best had {self.best_iou:.2g}: --pred-iou-thresh"
            return f"of {self.masks:,} masks none passed {limit}"
        if not self.stable:
            least = f"stability score {config.stability_score_thresh:g}"
            best = f"the best had at most {self.best_stability:.2g}: --stability-score-thresh"
            return f"of {self.likely:,} masks with the predicted IoU wanted none had {least}; {best}"
        return f"all {self.stable:,} stable masks end at a side of a crop: --crop-n-layers"
