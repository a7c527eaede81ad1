"""What is known of a model whatever the machine: its size, its arithmetic, and what others published of it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from weights import manifest

PARAMETERS, MACS, FLOPS = "parameters, M", "MACs, G", "FLOPs, G"
"""Published figures that are of the network alone."""


@dataclass(frozen=True)
class Published:
    """figure: what was measured. value: as printed. paper: where. why: what makes our figure another."""

    figure: str
    value: str
    paper: str
    why: str | None = None


@dataclass(frozen=True)
class Facts:
    """parameters: of the whole model. macs: multiply-accumulates for one image, of a SAM those of its encoder, of a
    text detector those with five tokens of text. input: in pixels, (least of the short side, most of the long one),
    which for a square are the same.
    """

    parameters: int
    macs: int
    input: tuple[int, int]
    published: tuple[Published, ...] = ()

    def ours(self, figure: str) -> float | None:
        """The same of our own count, in the figure's unit; None for what is not of the network alone."""
        counts = {PARAMETERS: self.parameters / 1e6, MACS: self.macs / 1e9, FLOPS: 2 * self.macs / 1e9}
        return counts.get(figure)


def facts(name: str) -> Facts | None:
    """Of a name of the manifest, None where nothing is known."""
    return _all().get(name)


@cache
def _all() -> dict[str, Facts]:
    content = tomllib.loads(manifest.MANIFEST.read_text(encoding="utf-8"))
    return {row["name"]: _read(content["papers"], **row["facts"]) for row in content["file"] if "facts" in row}


def _read(
    papers: dict[str, str], *, parameters: int, macs: int, input: Any, published: list[list[str]] | None = None
) -> Facts:
    sides = tuple(input) if isinstance(input, list) else (input, input)
    entries = (Published(figure, value, papers[paper], *why) for figure, value, paper, *why in published or ())
    return Facts(parameters, macs, sides, tuple(entries))
