"""What each strategy can be told. Names and defaults of the grid are those of segment-anything's scripts/amg.py."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import Any, ClassVar, Protocol

from pipelines.detectors import DetectorConfig
from pipelines.errors import UnknownNameError
from pipelines.limits import FEW, LOGIT, MANY, MARGIN, SHARE, TIMES, Limits, keep_within
from pipelines.sam.rules import MaskRules

LAYERS = Limits(0, 8, "from 0 to 8")
OFFSET = Limits(0.0, LOGIT.most, "from 0 to 1e6")
_LIMITS = {
    "points_per_side": FEW,
    "points_per_batch": MANY,
    "pred_iou_thresh": SHARE,
    "stability_score_thresh": SHARE,
    "stability_score_offset": OFFSET,
    "box_nms_thresh": SHARE,
    "crop_n_layers": LAYERS,
    "crop_nms_thresh": SHARE,
    "crop_overlap_ratio": SHARE,
    "crop_n_points_downscale_factor": FEW,
    "min_mask_region_area": TIMES,
    "high_score_thresh": Limits(-inf, inf, "a number"),
}


SECOND_PASSES = ("grid", "around")
"""Where `hierarchical` asks after its coarse grid."""


def _check(config: Any) -> None:
    """Raise UsageError for a number out of its limits."""
    keep_within(config, **{field.name: _LIMITS[field.name] for field in fields(config) if field.name in _LIMITS})


class StrategyConfig(Protocol):
    """What a strategy can be told: a frozen dataclass. `evsam everything` has an option for each field of those below;
    a field of the same name in another one gets the option's value.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    strategy: ClassVar[str]
    """The name of its row."""


@dataclass(frozen=True)
class GridConfig:
    """A grid of clicks over the image and, in further layers, over overlapping crops of it.

    points_per_side: of the grid; points_per_batch: clicks decoded at once, which bounds memory. A mask is kept if its
    predicted IoU is above pred_iou_thresh (0: all) and its stability score, taken stability_score_offset around the
    threshold, at least stability_score_thresh (0: all). box_nms_thresh: masks of one crop whose boxes overlap more are
    one. crop_n_layers: layer i has 4**i crops, which overlap by crop_overlap_ratio of the short side in the first and
    less in later ones, and a grid sparser by crop_n_points_downscale_factor**i; crop_nms_thresh: as box_nms_thresh,
    between crops, smaller crops first. min_mask_region_area: holes and islands of fewer pixels are removed (0: none).
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0

    strategy: ClassVar[str] = "grid"

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class HierarchicalConfig(GridConfig):
    """A coarse grid of a quarter of points_per_side first, then finer clicks, but only outside its masks.

    high_score_thresh: a click is inside a mask where the mask's logit is above this. second_pass: the finer clicks are
    those of the full grid ("grid"), or lie around each click of the coarse one, as TinySAM's code has it ("around").
    """

    high_score_thresh: float = 8.5
    second_pass: str = "grid"

    strategy: ClassVar[str] = "hierarchical"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.second_pass not in SECOND_PASSES:
            raise UnknownNameError("second pass", self.second_pass, list(SECOND_PASSES))


@dataclass(frozen=True)
class EdgesConfig:
    """A grid of clicks whose masks are not filtered but by overlap, for an edge map. Terms: see GridConfig."""

    points_per_side: int = 16
    points_per_batch: int = 64
    box_nms_thresh: float = 0.7

    strategy: ClassVar[str] = "edges"

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class ObjectsConfig(DetectorConfig):
    """The boxes of a detector, whatever their class; see DetectorConfig. iou: boxes that overlap more are one.

    conf is low whatever the model: here a box too many costs a mask, a box too few an object. box_margin,
    min_mask_region_area: see `MaskRules`.
    """

    conf: float = 0.05
    iou: float = 0.7
    max_det: int = 320
    box_margin: float | None = None
    min_mask_region_area: int = 0

    strategy: ClassVar[str] = "objects"

    def __post_init__(self) -> None:
        super().__post_init__()
        keep_within(self, box_margin=MARGIN, min_mask_region_area=TIMES)

    @property
    def rules(self) -> MaskRules:
        return MaskRules(self.box_margin, self.min_mask_region_area)


PRESETS: dict[str, dict[str, Any]] = {
    "sam": {},
    "efficientvit": {"pred_iou_thresh": 0.8, "stability_score_thresh": 0.85, "min_mask_region_area": 100},
    "tinysam": {"high_score_thresh": 8.5, "second_pass": "around"},
}
"""Values that others use: the class defaults of segment-anything, those of EfficientViT-SAM's demo, and of TinySAM's
search through the whole image, which are the first's but for its second pass.
"""
