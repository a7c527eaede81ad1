"""What a family of SAMs does its own way around its network; what is not said here is as in SAM (arXiv 2304.02643)."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.sam.choice import MaskChoice


@dataclass(frozen=True)
class Conventions:
    """choice: which of a prompt's masks answers it."""

    choice: MaskChoice = field(default_factory=MaskChoice)


SAM = Conventions()
