"""What a reader of a format gives, and the rules by which values of any depth become 8-bit RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from pipelines.types import UInt8

_UPRIGHT = {  # by EXIF orientation
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """rgb: as the file stores it, mode RGB; orientation: EXIF's, 1 to 8; notes: as in `Image.notes`."""

    rgb: PIL.Image.Image
    orientation: int = 1
    notes: tuple[str, ...] = ()

    def pixels(self, upright: bool) -> UInt8:
        """H x W x 3 uint8, C-contiguous and read-only."""
        turn = _UPRIGHT.get(self.orientation) if upright else None
        return np.asarray(self.rgb if turn is None else self.rgb.transpose(turn))


def known_orientation(value: Any) -> int:
    """1 to 8; 1, which is upright, for what has no meaning."""
    return int(value) if value in _UPRIGHT else 1


def on_white(rgba: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def eight_bits(values: NDArray[Any], bits: int) -> UInt8:
    """Unsigned values below 2 ** bits: fewer than 8 bits are spread over 0 to 255, of more the high 8 are kept."""
    if bits < 8:
        spread: UInt8 = np.rint(np.arange(2**bits) * (255 / (2**bits - 1))).astype(np.uint8)
        return np.take(spread, values)
    return (values if bits == 8 else values >> (bits - 8)).astype(np.uint8, copy=False)


def stretched(grey: NDArray[Any]) -> UInt8:
    """Values without a fixed range: the least finite one becomes 0, the greatest 255."""
    finite = grey[np.isfinite(grey)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    half = high / 2 - low / 2  # the whole may be above what a double holds
    if half == 0:
        return np.zeros(grey.shape, np.uint8)
    values = np.nan_to_num(grey.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.rint((values / 2 - low / 2) / half * 255).astype(np.uint8)


def dark(largest: int, bits: int) -> tuple[str, ...]:
    """The note on values of more than 8 bits whose largest is so small that fewer bits were meant, perhaps."""
    if bits <= 8 or largest == 0 or largest >= 2 ** (bits - 4):
        return ()
    return (
        f"its largest value is below 1/16 of what {bits} bits can hold, and is read so, with hardly any contrast: "
        "if fewer bits are in use, scale the values up",
    )
