"""What is done to masks before they count, beyond what SAM's papers do: off, unless a model or the user asks for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipelines.limits import MARGIN, TIMES, keep_within

NO_BOX = "clicks have no box that a mask could be looked for in: drop --box-margin"


@dataclass(frozen=True)
class MaskRules:
    """box_margin: a mask is looked for only in its prompt's box, enlarged on each side by this share of the box's width
    or height; None: all over the image. min_mask_region_area: holes and islands of fewer pixels go, as segment-anything
    does it (0: none); the largest island stays.

    Raises UsageError for a number out of its limits.
    """

    box_margin: float | None = None
    min_mask_region_area: int = 0

    def __post_init__(self) -> None:
        keep_within(self, box_margin=MARGIN, min_mask_region_area=TIMES)

    def given(self) -> dict[str, Any]:
        """Those values, by name, that do something."""
        nothing = asdict(AS_THEY_COME)
        return {name: value for name, value in asdict(self).items() if value != nothing[name]}


AS_THEY_COME = MaskRules()
"""Masks as the SAM gives them."""
