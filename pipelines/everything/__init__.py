"""Everything in an image, without a detector's classes: strategies by name.

A row's target is a function `(sam, config, *, offline) -> pipelines.run.Job`; sam is a `pipelines.sam.SamConfig`, on
whose device all runs, and config the strategy's own, in `pipelines.everything.config`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.outputs import Needs
from pipelines.registry import Registry, Row


@dataclass(frozen=True)
class StrategyRow(Row):
    """A strategy. gives: what its instances have, of which outputs are made."""

    gives: Needs = "masks"


STRATEGIES = Registry(
    "strategy",
    [
        StrategyRow("grid", "pipelines.everything.grid:grid", "clicks on a grid, SAM's own way and masks"),
        StrategyRow(
            "hierarchical", "pipelines.everything.hierarchical:hierarchical", "TinySAM's: a coarse grid, then the gaps"
        ),
        StrategyRow(
            "objects", "pipelines.everything.objects:objects", "MobileSAMv2's: the boxes of a detector, the fastest"
        ),
        StrategyRow("edges", "pipelines.everything.edges:edges", "a sparse grid, for an edge map", gives="edges"),
    ],
)
