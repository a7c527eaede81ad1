"""TIFF, read by what its tags say: pixels are those of the file, or an ImageError says what it holds."""

from __future__ import annotations

import itertools
import struct
from io import BytesIO
from typing import BinaryIO

import PIL.Image
from PIL.TiffImagePlugin import TiffImageFile

from pipelines.errors import ImageError
from pipelines.images.needed import Needed
from pipelines.images.pillow import to_rgb
from pipelines.images.pixels import Decoded, known_orientation
from pipelines.images.reasons import check_size, explained
from pipelines.images.tiff_colours import COLOURS, rgb_of
from pipelines.images.tiff_tags import COMPRESSIONS, Layout, Tag, Tags, layout_of, read_tags
from pipelines.images.tiff_values import PICTURES, read_picture, read_values

_NOT_READ = {
    **{9: "JBIG", 10: "JBIG", 34661: "JBIG", 34715: "JBIG2", 32766: "NeXT RLE", 32771: "CCITT RLE in words"},
    **{32809: "ThunderScan", 34676: "SGI Log", 34677: "SGI Log", 34887: "LERC", 34892: "JPEG of raw data"},
    **{33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34927: "WebP", 50001: "WebP", 34933: "PNG"},
    **{22610: "JPEG XR", 34934: "JPEG XR", 50002: "JPEG XL", 52546: "JPEG XL"},
}
_NO_COLOURS = {  # by PhotometricInterpretation
    **{4: "a mask", 9: "colours in ICC L*a*b*", 10: "colours in ITU L*a*b*", 32844: "logarithmic luminance"},
    **{
        32845: "logarithmic colours",
        32803: "raw values of a camera's sensor",
        34892: "raw values of a camera's sensor",
    },
}
_ALPHA = {1: True, 2: False}
"""ExtraSamples that are alpha: whether the colours are multiplied by it already."""
_SEGMENT_BITS = 128
"""Of a strip or tile, for each pixel that an image may have."""


def is_tiff(file: BinaryIO) -> bool:
    """By its first bytes, which are left to read."""
    start = file.read(4)
    file.seek(0)
    return start[:2] in (b"II", b"MM") and start[2:] in (b"\0*", b"*\0", b"\0+", b"+\0")


def read_tiff(file: BinaryIO, max_pixels: int) -> Decoded:
    """The first page."""
    name = "what it holds"
    try:
        tags = read_tags(file)
        layout = layout_of(tags)
        check_size((layout.width, layout.height), max_pixels)
        name = COMPRESSIONS.get(layout.compression, "")
        if not name:
            name = _NOT_READ.get(layout.compression, f"method {layout.compression}")
            raise ImageError(f"the TIFF file is compressed by {name}, which is not read: save it with LZW or deflate")
        orientation = _orientation(tags)
        notes = _guessed(tags, layout)
        if layout.compression == 6:
            return Decoded(_old_jpeg(file, tags, orientation), orientation, notes)
        rgb, of_values = _by_tags(file, tags, layout, max_pixels)
        return Decoded(rgb, orientation, notes + of_values)
    except ImageError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and not error.errno:  # libtiff tells no more than that it failed
            raise ImageError(f"the TIFF file is damaged or truncated, or this Pillow cannot read {name}") from error
        raise explained(error, "TIFF", max_pixels) from error


def _orientation(tags: Tags) -> int:
    if Tag.ORIENTATION in tags.values:
        return known_orientation(tags.one(Tag.ORIENTATION, 1))
    xmp = bytes(byte & 0xFF for byte in tags.all(Tag.XMP))
    return Needed(BytesIO(), xmp=xmp).orientation()[0]


def _guessed(tags: Tags, layout: Layout) -> tuple[str, ...]:
    notes = []
    if Tag.PHOTOMETRIC not in tags.values and layout.compression != 6:
        read_as = {0: "grey, 0 white", 1: "grey, 0 black", 2: "RGB", 6: "YCbCr"}[layout.photometric]
        notes.append(f"the file does not say what its values mean: they are read as {read_as}")
    if tags.one(Tag.NEW_SUBFILE_TYPE, 0) & 1:
        notes.append("the first page of the file, which is read, is a smaller copy of another one")
    return tuple(notes)


def _old_jpeg(file: BinaryIO, tags: Tags, orientation: int) -> PIL.Image.Image:
    """libtiff finds its way in the whole file. Pillow would turn it upright by itself, so the tag is made to say 1."""
    file.seek(0)
    content = file.read()
    for count, value in itertools.product("IQ", "HI"):
        entry = struct.Struct(f"{tags.order}HH{count}{value}")
        said, says = (entry.pack(Tag.ORIENTATION, 3 if value == "H" else 4, 1, turn) for turn in (orientation, 1))
        content = content.replace(said, says)
    picture = TiffImageFile(BytesIO(content), "")
    picture.load()
    return to_rgb(picture)


def _by_tags(file: BinaryIO, tags: Tags, layout: Layout, max_pixels: int) -> tuple[PIL.Image.Image, tuple[str, ...]]:
    """RGB and notes, of any bits, bands and order that the tags declare."""
    if layout.segment[0] * layout.segment[1] * layout.samples * layout.bits > _SEGMENT_BITS * max(max_pixels, 2**20):
        raise ImageError(f"the TIFF file has {layout.what}, in strips or tiles that are larger than any picture")
    decoded = None
    if layout.compression in PICTURES:
        decoded, layout = read_picture(file, tags, layout)
    if layout.photometric not in COLOURS:
        name = _NO_COLOURS.get(layout.photometric, f"colours of an unknown kind ({layout.photometric})")
        raise ImageError(f"the TIFF file has {layout.what}, {name}, which are not read: convert it to RGB")
    bands = COLOURS[layout.photometric][0]
    extra = layout.samples - bands
    grey = layout.photometric in (0, 1)
    fixed = layout.kind == "u" and layout.bits <= 16
    if extra < 0:
        raise ImageError(f"the TIFF file is damaged: it has {layout.what}, where its colours take {bands}")
    if (grey and extra > 1) or not (fixed or (grey and extra == 0)):
        raise ImageError(
            f"the TIFF file has {layout.what}: what is read is one band of grey, or colours of up to 16 bits that the "
            "file declares as such; convert it to RGB"
        )
    if layout.photometric == 5 and tags.one(Tag.INK_SET, 1) != 1:
        raise ImageError(f"the TIFF file has {layout.what}, of inks other than CMYK: convert it to RGB")
    if layout.subsampling != (1, 1) and (layout.planar or extra or layout.bits != 8 or not min(layout.subsampling)):
        raise ImageError(f"the TIFF file has {layout.what}, of which some share their colours: convert it to RGB")
    kinds = tags.all(Tag.EXTRA_SAMPLES)[:extra]
    alpha = next((n for n, kind in enumerate(kinds) if kind in _ALPHA), None)
    wanted = [*range(bands), *([] if alpha is None else [bands + alpha])]
    values = read_values(file, layout, wanted) if decoded is None else decoded[..., wanted]
    rgb, notes = rgb_of(values, tags, layout, None if alpha is None else _ALPHA[kinds[alpha]])
    if left_out := extra - (alpha is not None):
        known = layout.samples - left_out
        notes += (f"{known} of its {layout.samples} bands are read: the file does not say what the rest is",)
    return rgb, notes
