"""The rules by which masks are scored. A row is a published way of counting; scores compare only under one.

What both have in common: SAM gives three masks per prompt and the one with the highest predicted IoU counts; a
detection's score is its detector's; all boxes of a box file are used; the area of a predicted mask is its pixels; AP
ignores crowd regions as COCO's evaluation does, so that both rows give the same AP.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipelines.errors import UnknownNameError

SMALL, LARGE = 32**2, 96**2
"""COCO's borders between small, medium and large objects, in pixels of annotated area."""
EDGE_TOLERANCE = 0.0075
"""BSDS: how far two matched pixels of edges may be apart, over the image's diagonal."""
DRAWS, CONFIDENCE = 1000, 0.95
"""Of the bootstrap that compares two scores."""


@dataclass(frozen=True)
class Protocol:
    """How mIoU counts.

    crowds: whether crowd regions are objects. min_area: annotations with a smaller area are left out. shared_borders:
    an object of exactly 1024 or 9216 pixels counts in both of the sizes that meet there, else in the larger one.
    epsilon: added to the union, as in |A & B| / (|A | B| + epsilon).
    """

    name: str
    summary: str
    crowds: bool
    min_area: float
    shared_borders: bool
    epsilon: float

    def sizes(self, area: float) -> tuple[str, ...]:
        """The size classes in which an object of so many annotated pixels counts, beside "all"."""
        if self.shared_borders and area in (SMALL, LARGE):
            return ("small", "medium") if area == SMALL else ("medium", "large")
        return ("small",) if area < SMALL else ("medium",) if area < LARGE else ("large",)

    def rules(self) -> dict[str, Any]:
        """The rules as the stamp of a score states them."""
        return {
            **asdict(self),
            "mask": "of three, the one with the highest predicted IoU",
            "detection_score": "the detector's",
            "detection_area": "pixels of the mask (segm), of the box (bbox)",
            "crowds_in_ap": "ignored, as in COCO's evaluation",
        }


PROTOCOLS = {
    row.name: row
    for row in (
        Protocol(
            "efficientvit-sam",
            "the published one: crowds are objects, borders count twice",
            crowds=True,
            min_area=1,
            shared_borders=True,
            epsilon=1e-7,
        ),
        Protocol(
            "coco",
            "COCO's reading: crowds ignored, each object in one size",
            crowds=False,
            min_area=0,
            shared_borders=False,
            epsilon=0,
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol called `name`. Raises UnknownNameError."""
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, list(PROTOCOLS))
    return PROTOCOLS[name]
