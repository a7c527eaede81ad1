"""What the values of a TIFF mean: its kinds of colour (PhotometricInterpretation), depth and transparency, as RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from pipelines.errors import ImageError
from pipelines.images.pixels import dark, eight_bits, on_white, stretched
from pipelines.images.tiff_tags import Layout, Tag, Tags
from pipelines.types import UInt8


def rgb_of(
    values: NDArray[Any], tags: Tags, layout: Layout, associated: bool | None
) -> tuple[PIL.Image.Image, tuple[str, ...]]:
    """RGB, and notes. values: H x W x bands, and one of alpha unless `associated` is None.

    associated: whether the colours are multiplied by alpha already.
    """
    bands, convert = COLOURS[layout.photometric]
    colours, alpha = values[..., :bands], values[..., bands:]
    if layout.photometric == 3:
        rgb, notes = _of_palette(colours[..., 0], tags, layout.bits)
        bits = layout.bits
    elif layout.kind != "u" or layout.bits > 16:
        rgb, notes = convert(stretched(colours), tags), ()
        bits = layout.bits
    else:
        bits = _bits_in_use(values, tags, layout.bits)
        notes = dark(int(colours.max()), bits)
        eight = eight_bits(colours, bits)
        if associated:
            eight = _divided(eight, eight_bits(alpha, bits))
        rgb = convert(eight, tags)
    if associated is None:
        return rgb, notes
    rgb.putalpha(PIL.Image.fromarray(eight_bits(alpha[..., 0], bits)))
    return on_white(rgb), notes


def _bits_in_use(values: NDArray[Any], tags: Tags, bits: int) -> int:
    """Fewer than `bits`, above 8, where the greatest value that the tags declare says so and the values agree."""
    declared = int(tags.largest((Tag.MAX_SAMPLE_VALUE, Tag.S_MAX_SAMPLE_VALUE))).bit_length()
    return declared if bits > 8 and 0 < declared < bits and values.max() < 2**declared else bits


def _divided(colours: UInt8, alpha: UInt8) -> UInt8:
    """Colours that alpha has been taken out of."""
    return np.where(alpha > 0, np.minimum(colours * np.uint16(255) // np.maximum(alpha, 1), 255), 0).astype(np.uint8)


def _of_grey(values: UInt8, tags: Tags) -> PIL.Image.Image:
    return PIL.Image.fromarray(values[..., 0]).convert("RGB")


def _of_grey_from_white(values: UInt8, tags: Tags) -> PIL.Image.Image:
    return _of_grey(255 - values, tags)


def _of_rgb(values: UInt8, tags: Tags) -> PIL.Image.Image:
    return PIL.Image.fromarray(values)


def _of_cmyk(values: UInt8, tags: Tags) -> PIL.Image.Image:
    return _as("CMYK", values).convert("RGB")


def _of_lab(values: UInt8, tags: Tags) -> PIL.Image.Image:
    return _as("LAB", values).convert("RGB")


def _as(mode: str, values: UInt8) -> PIL.Image.Image:
    return PIL.Image.frombytes(mode, (values.shape[1], values.shape[0]), values.tobytes())


def _of_ycbcr(values: UInt8, tags: Tags) -> PIL.Image.Image:
    """By the coefficients and the range that the tags give, else those of JPEG."""
    reds, greens, blues = _numbers(tags, Tag.YCBCR_COEFFICIENTS, (0.299, 0.587, 0.114))
    reference = np.array(_numbers(tags, Tag.REFERENCE_BLACK_WHITE, (0, 255, 128, 255, 128, 255)), np.float32)
    black, white = reference[::2], reference[1::2]
    if not greens or (black == white).any():
        raise ImageError("the TIFF file is damaged: its YCbCr has no range")
    luma, to_blue, to_red = np.moveaxis(
        (values - black) * (np.array([255, 127, 127], np.float32) / (white - black)), 2, 0
    )
    red, blue = luma + (2 - 2 * reds) * to_red, luma + (2 - 2 * blues) * to_blue
    green = (luma - blues * blue - reds * red) / greens
    return PIL.Image.fromarray(np.rint(np.dstack([red, green, blue]).clip(0, 255)).astype(np.uint8))


def _numbers(tags: Tags, tag: Tag, default: tuple[float, ...]) -> tuple[float, ...]:
    found = tags.all(tag)
    return tuple(map(float, found)) if len(found) == len(default) else default


def _of_palette(indices: NDArray[Any], tags: Tags, bits: int) -> tuple[PIL.Image.Image, tuple[str, ...]]:
    table = np.array(tags.all(Tag.COLOR_MAP))
    if len(table) < 3 * 2**bits:
        raise ImageError("the TIFF file is damaged: its palette is missing or too short")
    table = table[: 3 * 2**bits].reshape(3, -1).T
    notes: tuple[str, ...] = ()
    if 0 < table.max() < 256:
        notes = ("its palette has values of 8 bits where the format asks for 16, and is read so",)
        table = table << 8
    return PIL.Image.fromarray((table >> 8).astype(np.uint8)[indices]), notes


COLOURS: dict[int, tuple[int, Callable[[UInt8, Tags], PIL.Image.Image]]] = {
    0: (1, _of_grey_from_white),
    1: (1, _of_grey),
    2: (3, _of_rgb),
    3: (1, _of_grey),  # of a palette, see `rgb_of`
    5: (4, _of_cmyk),
    6: (3, _of_ycbcr),
    8: (3, _of_lab),
}
"""By PhotometricInterpretation: how many bands have the colour, and how 8 bits of them become RGB."""
