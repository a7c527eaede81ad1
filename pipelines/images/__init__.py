"""What the user named becomes pixels: `sources` finds the images and names them, `load` reads one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

MAX_PIXELS = 200_000_000
"""An image of more pixels (width x height) is not decoded, unless the user allows it."""


def sample_photos() -> list[Path]:
    """The photographs that ultralytics ships: bus.jpg (810 x 1080) and zidane.jpg (1280 x 720)."""
    package = find_spec("ultralytics")
    assert package is not None and package.origin is not None
    return sorted(Path(package.origin).parent.glob("assets/*.jpg"))
