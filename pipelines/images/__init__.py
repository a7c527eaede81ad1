"""What the user named becomes pixels: `sources` finds the images and names them, `load` reads one."""

from __future__ import annotations

MAX_PIXELS = 200_000_000
"""An image of more pixels (width x height) is not decoded, unless the user allows it."""
