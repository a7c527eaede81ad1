"""The upright box, xywh, around one that is turned clockwise."""

from __future__ import annotations

import math

Box = tuple[float, float, float, float]


def around(centre: tuple[float, float], width: float, height: float, degrees: float) -> Box:
    """Turned about its centre, as CVAT turns."""
    angle = math.radians(degrees)
    w = abs(width * math.cos(angle)) + abs(height * math.sin(angle))
    h = abs(width * math.sin(angle)) + abs(height * math.cos(angle))
    return centre[0] - w / 2, centre[1] - h / 2, w, h


def around_turned(x: float, y: float, width: float, height: float, degrees: float) -> Box:
    """Turned about its top left corner, as Label Studio turns."""
    angle = math.radians(degrees)
    half_w, half_h = width / 2, height / 2
    centre = (
        x + half_w * math.cos(angle) - half_h * math.sin(angle),
        y + half_w * math.sin(angle) + half_h * math.cos(angle),
    )
    return around(centre, width, height, degrees)
