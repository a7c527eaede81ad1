"""Everything in an image, without a detector's classes: strategies by name.

A row's target is a function `(sam, config, *, device, offline) -> pipelines.run.Job`; the config is the strategy's own,
in `pipelines.everything.config`.
"""

from __future__ import annotations

from pipelines.registry import Registry, Row

STRATEGIES = Registry(
    "strategy",
    [
        Row("grid", "pipelines.everything.grid:grid", "clicks on a grid, SAM's own way and masks"),
        Row(
            "hierarchical", "pipelines.everything.hierarchical:hierarchical", "TinySAM's: a coarse grid, then the gaps"
        ),
        Row("objects", "pipelines.everything.objects:objects", "MobileSAMv2's: the boxes of a detector, the fastest"),
        Row("edges", "pipelines.everything.edges:edges", "a sparse grid, for an edge map"),
    ],
)
