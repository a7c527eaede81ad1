"""What a family of SAMs does its own way around its network; what is not said here is as in SAM (arXiv 2304.02643)."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.sam.choice import MaskChoice
from pipelines.sam.frame import PADDED, Fit
from pipelines.sam.points import PointRule, padded_without_box


@dataclass(frozen=True)
class Conventions:
    """fit: how images fit into the network's square. points: what prompts become. choice: which of a prompt's masks
    answers it.
    """

    fit: Fit = PADDED
    points: PointRule = padded_without_box
    choice: MaskChoice = field(default_factory=MaskChoice)


SAM = Conventions()
