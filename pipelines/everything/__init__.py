"""Everything in an image, without a detector's classes: strategies by name."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.everything.config import EdgesConfig, GridConfig, HierarchicalConfig, ObjectsConfig, StrategyConfig
from pipelines.outputs import Needs
from pipelines.registry import Registry, Row


@dataclass(frozen=True)
class StrategyRow(Row):
    """A strategy. config: what it can be told; gives: what its instances have, of which outputs are made.

    Its target makes a `pipelines.run.Job` and is called as `(sam, config, *, offline)`; sam: a
    `pipelines.sam.SamConfig`, on whose device all runs.
    """

    config: type[StrategyConfig] = GridConfig
    gives: Needs = "masks"


STRATEGIES = Registry(
    "strategy",
    [
        StrategyRow("grid", "pipelines.everything.grid:grid", "clicks on a grid, SAM's own way and masks"),
        StrategyRow(
            "hierarchical",
            "pipelines.everything.hierarchical:hierarchical",
            "TinySAM's: a coarse grid, then the gaps",
            config=HierarchicalConfig,
        ),
        StrategyRow(
            "objects",
            "pipelines.everything.objects:objects",
            "MobileSAMv2's: the boxes of a detector, the fastest",
            config=ObjectsConfig,
        ),
        StrategyRow(
            "edges",
            "pipelines.everything.edges:edges",
            "a sparse grid, for an edge map",
            config=EdgesConfig,
            gives="edges",
        ),
    ],
)
