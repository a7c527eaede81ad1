"""A picture is not lost for its metadata; what makes its pixels must be sound; no bomb is unpacked for either."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from support.image_files import RGB, encoded, reason

from pipelines.images.load import load
from pipelines.images.sources import ImageSource
from pipelines.types import Image

TIFF_6 = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"  # EXIF whose orientation is 6
XMP_6 = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
BOMB = zlib.compress(bytes(64_000_000))


def loaded(content: bytes, path: Path) -> Image:
    path.write_bytes(content)
    return load(ImageSource("x", str(path)), upright=False)


# PNG


def chunk(kind: bytes, content: bytes, checksum: bytes | None = None) -> bytes:
    checksum = checksum or struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(*extra: bytes, after: bool = False, plain: bytes = encoded("PNG")) -> bytes:
    """With more chunks before the pixels, or after them."""
    place = len(plain) - 12 if after else 8 + 25
    return plain[:place] + b"".join(extra) + plain[place:]


SPOILT = {
    "a text of a bomb": chunk(b"zTXt", b"a\0\0" + BOMB),
    "a long text": chunk(b"tEXt", b"a\0" + b"a" * 3_000_000),
    "an international text of a bomb": chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "XMP of a bomb": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "EXIF of a bomb": chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB),
    "texts without end": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 100,
    "a text with a wrong checksum": chunk(b"tEXt", b"a\0b", b"spam"),
    "a text in an unknown method": chunk(b"zTXt", b"a\0\5abc"),
    "a text without a name": chunk(b"iTXt", b"abc"),
    "a profile of a bomb": chunk(b"iCCP", b"a\0\0" + BOMB),
    "a profile in an unknown method": chunk(b"iCCP", b"a\0\5abc"),
    "an empty profile": chunk(b"iCCP", b""),
    "a profile with a wrong checksum": chunk(b"iCCP", b"a\0\0" + zlib.compress(b"abc"), b"spam"),
    "half a resolution": chunk(b"pHYs", b"abc"),
    "half a gamma": chunk(b"gAMA", b"a") + chunk(b"cHRM", b"a") + chunk(b"sRGB", b""),
    "an unknown chunk with a wrong checksum": chunk(b"ruST", b"abc", b"spam"),
    "a chunk without a name": chunk(b"t\0xt", b"abc", b"spam"),
    "half an animation": chunk(b"acTL", b"a") + chunk(b"fcTL", b"a") + chunk(b"fdAT", b"a"),
    "an animation without frames": chunk(b"acTL", struct.pack(">II", 3, 0)),
    "half of the significant bits": chunk(b"sBIT", b"", b"spam"),
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", SPOILT)
def test_a_png_is_not_lost_for(what: str, after: bool, tmp_path: Path) -> None:
    tracemalloc.start()
    image = loaded(png(SPOILT[what], after=after), tmp_path / "a.png")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(image.pixels, RGB)
    assert (image.notes, image.orientation) == ((), 1)
    assert most < 12_000_000


def test_a_text_that_runs_past_the_end(tmp_path: Path) -> None:
    plain = encoded("PNG")
    image = loaded(plain[:-12] + struct.pack(">I", 2**31) + b"tEXtabc", tmp_path / "a.png")
    assert np.array_equal(image.pixels, RGB)
    assert np.array_equal(loaded(plain[:-12], tmp_path / "a.png").pixels, RGB)


PALETTE = PIL.Image.fromarray(RGB[..., 0] % 4).convert("P")
PALETTE.putpalette([1, 2, 3, 40, 50, 60, 70, 80, 90, 10, 110, 120])


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"IDAT"])
def test_what_makes_pixels_must_have_its_checksum(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PALETTE.save(path, transparency=b"\xff\x80\xff\xff")
    content = bytearray(path.read_bytes())
    place = content.index(kind)
    content[place + 4 + struct.unpack_from(">I", content, place - 4)[0]] ^= 1
    path.write_bytes(content)
    assert reason(path) == f"the PNG file is damaged: the checksum of its {kind.decode()} chunk is wrong"


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"eXIf", TIFF_6),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_6),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP_6)),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n  26\n" + TIFF_6.hex().encode())),
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  26\n" + TIFF_6.hex().encode() + b"\n"),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_the_orientation_of_a_png_is_found_among_spoilt_texts(extra: bytes, after: bool, tmp_path: Path) -> None:
    image = loaded(png(SPOILT["a text of a bomb"], extra, after=after), tmp_path / "a.png")
    assert np.array_equal(image.pixels, RGB)
    assert (image.orientation, image.notes) == (6, ())


def test_exif_that_is_damaged_is_told(tmp_path: Path) -> None:
    image = loaded(png(chunk(b"eXIf", TIFF_6, b"spam")), tmp_path / "a.png")
    assert np.array_equal(image.pixels, RGB)
    assert image.orientation == 1
    assert "EXIF data is damaged" in image.notes[0]


def test_the_pixels_of_an_animation_are_its_first_frame(tmp_path: Path) -> None:
    frames = [PIL.Image.fromarray(RGB), PIL.Image.fromarray(255 - RGB)]
    for hidden in (False, True):
        path = tmp_path / "a.png"
        frames[0].save(path, save_all=True, append_images=frames[1:], default_image=hidden)
        assert np.array_equal(load(ImageSource("x", str(path))).pixels, RGB)


# JPEG


def segment(marker: int, content: bytes, size: int | None = None) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2 if size is None else size) + content


EXIF_6 = segment(0xE1, b"Exif\0\0" + TIFF_6)
SEGMENTS = {
    "profiles without numbers": segment(0xE2, b"ICC_PROFILE\0") + segment(0xE2, b"ICC_PROFILE\0\1"),
    "half of a profile": segment(0xE2, b"ICC_PROFILE\0\1\2abc"),
    "a profile of 10 MB": segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65000)) * 150,
    "XMP of 10 MB": segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65000)) * 150,
    "half of Photoshop's data": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "Photoshop's data with a wrong length": segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\xff\0\0"),
    "half of JFIF": segment(0xE0, b"JFIF"),
    "half of Adobe's segment": segment(0xEE, b"Adobe"),
    "an index of pictures that is none": segment(0xE2, b"MPF\0") + segment(0xE2, b"MPF\0II*\0\x08\0\0\0\1\0\x12"),
    "an index of pictures that are not there": segment(
        0xE2, b"MPF\0II*\0\x08\0\0\0\2\0\x01\xb0\4\0\1\0\0\0\5\0\0\0\x02\xb0\7\0\x50\0\0\0\x20\0\0\0\0\0\0\0"
    ),
    "resolution in EXIF that is none": segment(
        0xE1, b"Exif\0\0II*\0\x08\0\0\0\2\0\x1a\1\5\0\1\0\0\0\xff\xff\xff\x7f\x28\1\3\0\1\0\0\0\2\0\0\0"
    ),
    "segments of no length": segment(0xE5, b"", 0) + segment(0xE5, b"", 1),
    "a segment that says it is shorter": segment(0xE5, b"abcdefgh", 4),
    "markers without a meaning": b"\xff\x02\xff\x01\xff\xd0\xff\xff\xff\0",
    "extensions": segment(0xF0, b"abc") + segment(0xFE, b""),
}


@pytest.mark.parametrize("what", SEGMENTS)
def test_a_jpeg_is_not_lost_for(what: str, tmp_path: Path) -> None:
    plain = encoded("JPEG")
    expected = loaded(plain, tmp_path / "a.jpg").pixels
    for orientation, before in ((1, b""), (6, EXIF_6)):
        image = loaded(plain[:2] + before + SEGMENTS[what] + plain[2:], tmp_path / "a.jpg")
        assert np.array_equal(image.pixels, expected)
        assert image.orientation == orientation


@pytest.mark.parametrize(
    "extra",
    [
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP_6),
        segment(0xE1, b"Exif\0\0" + TIFF_6[:9]) + segment(0xE1, b"Exif\0\0" + TIFF_6[9:]),
    ],
)
def test_the_orientation_of_a_jpeg(extra: bytes, tmp_path: Path) -> None:
    plain = encoded("JPEG")
    assert loaded(plain[:2] + extra + plain[2:], tmp_path / "a.jpg").orientation == 6


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"keep_rgb": True}, {"comment": b"hello"}])
def test_the_colours_of_a_jpeg_are_those_that_pillow_finds(mode: str, options: dict[str, Any], tmp_path: Path) -> None:
    """What says whether bands are YCbCr or RGB is no metadata."""
    picture = PIL.Image.fromarray(RGB).convert(mode)
    picture.save(tmp_path / "a.jpg", quality=90, **({} if mode != "RGB" and "keep_rgb" in options else options))
    with PIL.Image.open(tmp_path / "a.jpg") as opened:
        expected = np.asarray(opened.convert("RGB"))
    assert np.array_equal(load(ImageSource("x", str(tmp_path / "a.jpg"))).pixels, expected)


# WebP, GIF, JPEG 2000


def part(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    return kind + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


def webp(flags: int, *parts: bytes, size: int | None = None) -> bytes:
    body = b"WEBP" + part(b"VP8X", struct.pack("<I", flags) + b"\x27\0\0\x1d\0\0") + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


PIXELS = encoded("WEBP")[12:]
EXIF = part(b"EXIF", TIFF_6)


@pytest.mark.parametrize(
    ("content", "orientation"),
    [
        (webp(8, PIXELS, EXIF), 6),
        (webp(8, PIXELS, EXIF, size=100_000), 6),
        (webp(8, PIXELS, EXIF, b"abc"), 6),
        (webp(8, PIXELS, EXIF, b"nothing at all"), 6),
        (webp(0x28, part(b"ICCP", b"abc"), PIXELS, EXIF), 6),
        (webp(0x28, part(b"ICCP", b""), PIXELS, EXIF), 6),
        (webp(12, PIXELS, EXIF, part(b"XMP ", b"\xff", 1000)), 6),
        (webp(4, PIXELS, part(b"XMP ", XMP_6)), 6),
        (webp(8, PIXELS, part(b"EXIF", TIFF_6, 2**32 - 9)), 6),
        (webp(8, PIXELS, b"EXIF\3\0\0\0abc"), 1),
        (webp(0x2C, PIXELS), 1),
        (webp(0, PIXELS, EXIF), 1),
        (webp(0, part(b"SPAM", b"abc"), PIXELS), 1),
    ],
)
def test_a_webp_is_not_lost_for_its_metadata(content: bytes, orientation: int, tmp_path: Path) -> None:
    image = loaded(content, tmp_path / "a.webp")
    assert np.array_equal(image.pixels, RGB)
    assert image.orientation == orientation


def test_a_webp_without_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(webp(0x20, part(b"ICCP", b"abc", 10**6), PIXELS))
    assert reason(tmp_path / "a.webp") == "the WEBP file is truncated"


@pytest.mark.parametrize(
    "extension",
    [
        b"!\xfe\3abc\0",
        b"!\xfe\0",
        b"!\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0",
        b"!\xff\0",
        b"!\xff\3abc\0",
        b"!\xff\x0bNETSCAPE2.0\1\1\0",
        b"!\xff\x0bNETSCAPE2.0\2\1\0\0",
        b"!\xff\x0bXMP DataXMP" + XMP_6 + b"\1" + bytes(range(255, -1, -1)) + b"\0",
        b"!\xf9\0",
        b"!\xf9\1\1\0",
        b"!\xf9\3\1\0\0\0",
        b"!\x77\3abc\0",
        b"\0\0\0",
    ],
)
def test_a_gif_is_not_lost_for_its_extensions(extension: bytes, tmp_path: Path) -> None:
    content = encoded("GIF", RGB[..., 0])
    expected = loaded(content, tmp_path / "a.gif").pixels
    place = 13 + (6 << (content[10] & 7) if content[10] & 0x80 else 0)
    image = loaded(content[:place] + extension + content[place:], tmp_path / "a.gif")
    assert np.array_equal(image.pixels, expected)


def box(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I", len(content) + 8 if size is None else size) + kind + content


@pytest.mark.parametrize("spoilt", [box(b"res ", b"a"), box(b"res ", b""), box(b"spam", b""), box(b"res ", b"", 3)])
@pytest.mark.parametrize("inside", [False, True])
def test_a_jpeg_2000_is_not_lost_for_its_boxes(inside: bool, spoilt: bytes, tmp_path: Path) -> None:
    content = encoded("JPEG2000")
    place = content.index(b"jp2h") - 4
    size = struct.unpack_from(">I", content, place)[0]
    if inside:
        header = struct.pack(">I", size + len(spoilt)) + content[place + 4 : place + size] + spoilt
    elif spoilt.endswith(b"\3res "):
        return  # nothing tells where the next box begins
    else:
        header = spoilt + content[place : place + size]
    image = loaded(content[:place] + header + content[place + size :], tmp_path / "a.jp2")
    assert np.array_equal(image.pixels, RGB)


# More than 8 bits in PNG and PNM


def png16(values: np.ndarray, *extra: bytes, alpha: np.ndarray | None = None) -> bytes:
    """values: H x W grey or H x W x 3, uint16."""
    height, width = values.shape[:2]
    bands = values.reshape(height, width, -1)
    kind = {1: 0, 3: 2}[bands.shape[2]] + (0 if alpha is None else 4)
    if alpha is not None:
        bands = np.dstack([bands, alpha])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in bands)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


TWELVE = np.random.default_rng(2).integers(0, 4096, (30, 40, 3), np.uint16)
TWELVE[0, 0] = 4095


def three(values: np.ndarray) -> np.ndarray:
    return np.broadcast_to(values[..., None] if values.ndim == 2 else values, (30, 40, 3))


@pytest.mark.parametrize("values", [TWELVE, TWELVE[..., 0]])
def test_a_png_of_twelve_bits(values: np.ndarray, tmp_path: Path) -> None:
    """At the low end of 16, they are scaled where the file says so; at the high end, where they belong, as always."""
    bits = chunk(b"sBIT", bytes([12] * (3 if values.ndim == 3 else 1)))
    declared = loaded(png16(values, bits), tmp_path / "a.png")
    assert np.array_equal(declared.pixels, three(values >> 4))
    assert declared.notes == ()
    silent = loaded(png16(values), tmp_path / "a.png")
    assert np.array_equal(silent.pixels, three(values >> 8))
    assert "below 1/16 of what 16 bits can hold" in silent.notes[0]
    shifted = loaded(png16(values << 4 | values >> 8, bits), tmp_path / "a.png")
    assert np.array_equal(shifted.pixels, three(values >> 4))
    assert shifted.notes == ()
    dark = loaded(png16(values >> 8 << 4, bits), tmp_path / "a.png")
    assert np.array_equal(dark.pixels, three(values >> 12))
    assert len(dark.notes) == 1


def test_a_dark_png_with_alpha_is_told(tmp_path: Path) -> None:
    for values in (TWELVE, TWELVE[..., 0]):
        image = loaded(png16(values, alpha=np.full((30, 40), 65535, np.uint16)), tmp_path / "a.png")
        assert np.array_equal(image.pixels, three(values >> 8))
        assert "below 1/16" in image.notes[0]


@pytest.mark.parametrize("values", [TWELVE * 16, TWELVE, TWELVE[..., 0]])
def test_a_colour_key_of_sixteen_bits_is_that_colour_alone(values: np.ndarray, tmp_path: Path) -> None:
    values = values.copy()
    values[3, 3] = values[1, 1]
    values[4, 4] = values[1, 1] ^ 1  # the high byte is the same
    key = chunk(b"tRNS", values[1, 1].reshape(-1).astype(">u2").tobytes())
    clear = (values == values[1, 1]).reshape(30, 40, -1).all(2)
    assert clear.sum() >= 2
    image = loaded(png16(values, key), tmp_path / "a.png")
    assert np.array_equal(image.pixels, np.where(clear[..., None], 255, three(values >> 8)))


@pytest.mark.parametrize("greatest", [100, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_portable_maps_are_scaled_by_their_greatest_value(kind: str, greatest: int, tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, greatest, (30, 40, 3), np.uint16, endpoint=True)
    values = values if kind in ("P3", "P6") else values[..., 0]
    content = f"{kind}\n40 30\n{greatest}\n".encode()
    if kind in ("P2", "P3"):
        content += " ".join(map(str, values.ravel())).encode()
    else:
        content += values.astype(">u2" if greatest > 255 else "u1").tobytes()
    image = loaded(content, tmp_path / "a.pnm")
    assert np.abs(image.pixels - three(values) / greatest * 255).max() <= 1
    assert image.notes == ()


@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_a_portable_map_of_twelve_bits_that_declares_sixteen_is_told(kind: str, tmp_path: Path) -> None:
    values = TWELVE if kind == "P6" else TWELVE[..., 0]
    image = loaded(f"{kind}\n40 30\n65535\n".encode() + values.astype(">u2").tobytes(), tmp_path / "a.pnm")
    assert np.abs(image.pixels.astype(int) - three(values >> 8)).max() <= 1
    assert "below 1/16" in image.notes[0]
