"""TIFF that is compressed as a picture, turned, dark, damaged or no picture: right, told or refused by name."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from support.image_files import reason
from support.tiff_files import (
    CONTAINERS,
    HEIGHT,
    LAYOUTS,
    WIDTH,
    grey,
    loaded,
    overwrite,
    random,
    rewritten,
    stored,
    ways,
    written,
)

RGB = random("u1", 3)
SMOOTH = np.dstack(np.broadcast_arrays(*np.ogrid[0 : 3 * HEIGHT : 3, 0 : 4 * WIDTH : 4], 90)).astype(np.uint8)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (SMOOTH[..., :1], {"photometric": "minisblack"}),
        (SMOOTH[..., :1], {"photometric": "miniswhite"}),
        (SMOOTH, {"photometric": "rgb"}),
        (SMOOTH, {"photometric": "rgb", "planarconfig": "separate"}),
        (SMOOTH, {"photometric": "rgb", "compressionargs": {"outcolorspace": "ycbcr"}}),
        (SMOOTH, {"photometric": "rgb", "subsampling": (2, 2), "compressionargs": {"outcolorspace": "ycbcr"}}),
        (np.dstack([SMOOTH, SMOOTH[..., 0]]), {"photometric": "separated"}),
    ],
)
def test_jpeg_in_tiff(values: np.ndarray, options: dict[str, Any], tmp_path: Path) -> None:
    for way in ways(LAYOUTS, CONTAINERS)[:9]:
        path = written(tmp_path / "a.tif", values, compression="jpeg", **options, **way)
        judged = stored(path)
        if options["photometric"] == "miniswhite":
            judged = 255 - judged
        if options["photometric"] == "separated":
            judged = np.asarray(PIL.Image.fromarray(judged, "CMYK").convert("RGB"))
        assert np.array_equal(loaded(path).pixels, judged if judged.shape[2] == 3 else grey(judged)), way


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_fax(compression: str | None, reverse: bool, white_is_zero: bool, tmp_path: Path) -> None:
    bits = random("u1", 1)[..., 0] > 99
    file = io.BytesIO()
    PIL.Image.fromarray(bits).save(file, "TIFF", compression=compression)
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    path = rewritten(tmp_path / "a.tif", reverse, {262: 0 if white_is_zero else 1})
    assert np.array_equal(loaded(path).pixels, grey((bits ^ white_is_zero) * np.uint8(255)))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits"])
def test_bytes_that_are_turned_round(dtype: str, compression: str | None, tmp_path: Path) -> None:
    for values, colour in ((random(dtype, 3), "rgb"), (random(dtype, 1), "minisblack")):
        path = written(tmp_path / "a.tif", values, photometric=colour, compression=compression, rowsperstrip=9)
        path = rewritten(path, True, {})
        expected = (values >> (8 * values.itemsize - 8)).astype(np.uint8)
        assert np.array_equal(loaded(path).pixels, expected if colour == "rgb" else grey(expected))


UPRIGHT = [
    lambda a: a,
    lambda a: a[:, ::-1],
    lambda a: a[::-1, ::-1],
    lambda a: a[::-1],
    lambda a: a.transpose(1, 0, 2),
    lambda a: np.rot90(a, -1),
    lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    lambda a: np.rot90(a),
]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "lzw", "jpeg"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_orientation(tile: tuple[int, int] | None, compression: str | None, orientation: int, tmp_path: Path) -> None:
    values = SMOOTH if compression == "jpeg" else random("u2", 3)
    turned = [(274, "H", 1, orientation)]
    path = written(tmp_path / "a.tif", values, photometric="rgb", compression=compression, tile=tile, extratags=turned)
    pixels = (stored(path) >> (8 * values.itemsize - 8)).astype(np.uint8)
    assert np.array_equal(loaded(path, upright=False).pixels, pixels)
    assert np.array_equal(loaded(path).pixels, UPRIGHT[orientation - 1](pixels))
    assert loaded(path).orientation == loaded(path, upright=False).orientation == orientation


def old_style_jpeg(orientation: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(SMOOTH).save(file, "JPEG", quality=95)
    jpeg = file.getvalue() + bytes(len(file.getvalue()) % 2)
    tags = [
        *((256, 4, WIDTH), (257, 4, HEIGHT), (258, 3, 8), (259, 3, 6), (262, 3, 6), (273, 4, 8), (274, 3, orientation)),
        *((277, 3, 3), (278, 4, HEIGHT), (279, 4, len(jpeg)), (513, 4, 8), (514, 4, len(jpeg))),
    ]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(jpeg)) + jpeg + struct.pack("<H", len(tags)) + table + bytes(4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_old_style_jpeg(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(old_style_jpeg(orientation))
    image = loaded(path, upright=False)
    assert np.abs(image.pixels.astype(int) - SMOOTH).max() <= 12
    assert image.orientation == orientation
    assert np.array_equal(loaded(path).pixels, UPRIGHT[orientation - 1](image.pixels))


def test_the_first_page_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([RGB, 255 - RGB]), photometric="rgb", metadata=None)
    assert np.array_equal(loaded(path).pixels, RGB)


@pytest.mark.parametrize("colour", ["minisblack", "miniswhite", "rgb"])
@pytest.mark.parametrize("tag", [281, 341])
def test_twelve_bits_in_sixteen(tag: int, colour: str, tmp_path: Path) -> None:
    """They are scaled by what the tags declare; where they declare nothing, the picture is dark, and says so."""
    values = random("u2", 3 if colour == "rgb" else 1, 12)
    declared = [(tag, "H", values.shape[2], (4095,) * values.shape[2])]
    options = {"photometric": colour, "compression": "lzw"}
    for extra, shift, notes in ((declared, 4, 0), ([], 8, 1)):
        image = loaded(written(tmp_path / "a.tif", values, extratags=extra, **options))
        expected = (values >> shift).astype(np.uint8)
        expected = 255 - expected if colour == "miniswhite" else expected
        assert np.array_equal(image.pixels, expected if colour == "rgb" else grey(expected))
        assert ["below 1/16" in note for note in image.notes] == [True] * notes


def test_a_greatest_value_that_the_pixels_exceed_is_ignored(tmp_path: Path) -> None:
    values = random("u2", 1)
    path = written(tmp_path / "a.tif", values, photometric="minisblack", extratags=[(281, "H", 1, 4095)])
    assert np.array_equal(loaded(path).pixels, grey(values >> 8))
    path = written(tmp_path / "a.tif", random("u1", 1), photometric="minisblack", extratags=[(281, "H", 1, 255)])
    assert np.array_equal(loaded(path).pixels, grey(random("u1", 1)))


def test_black_is_no_dark_picture(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", np.zeros((HEIGHT, WIDTH, 1), np.uint16), photometric="minisblack")
    assert loaded(path).notes == ()


@pytest.mark.parametrize(
    ("values", "colour", "words"),
    [
        (random("f4", 5), "minisblack", "5 bands, float32"),
        (random("u2", 5), "minisblack", "5 bands, uint16"),
        (random("u1", 3), "minisblack", "3 bands, uint8"),
        (random("f4", 3), "rgb", "3 bands, float32"),
        (random("i2", 3), "rgb", "3 bands, int16"),
        (random("u4", 4), "separated", "4 bands, uint32"),
        (random("f4", 2), "minisblack", "2 bands, float32"),
        (random("f4", 1).astype("c8"), "minisblack", "complex values of 64 bits"),
        (random("u1", 1), "cfa", "1 band, uint8, raw values of a camera's sensor"),
        (random("u1", 3), "icclab", "ICC L*a*b*"),
    ],
)
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_what_is_no_picture_is_told_by_what_it_is(
    values: np.ndarray, colour: str, words: str, compression: str | None, tmp_path: Path
) -> None:
    for planar in ("contig", "separate") if values.shape[2] > 1 else ("contig",):
        options = {"photometric": colour, "compression": compression, "planarconfig": planar}
        text = reason(written(tmp_path / "a.tif", values, **options))
        assert words in text
        assert "damaged" not in text


@pytest.mark.parametrize(
    ("compression", "words"),
    [("webp", "WebP"), ("lerc", "LERC"), ("jpeg2000", "JPEG 2000"), ("png", "PNG"), ("jpegxl", "JPEG XL")],
)
def test_a_compression_that_is_not_read_is_named(compression: str | None, words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", RGB, photometric="rgb", compression=compression)
    assert f"compressed by {words}, which is not read" in reason(path)


def test_zstandard_depends_on_the_release_of_pillow(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", RGB, photometric="rgb", compression="zstd", predictor=2)
    try:
        PIL.Image.new("L", (1, 1)).save(io.BytesIO(), "TIFF", compression="zstd")
    except OSError:
        assert "this Pillow cannot read Zstandard" in reason(path)
    else:
        assert np.array_equal(loaded(path).pixels, RGB)


@pytest.mark.parametrize("extra", ["unassalpha", "unspecified"])
@pytest.mark.parametrize("bands", [1, 3])
def test_jpeg_with_another_band(bands: int, extra: str, tmp_path: Path) -> None:
    values = np.dstack([SMOOTH[..., :bands], SMOOTH[..., 1]])
    options = {"photometric": "rgb" if bands == 3 else "minisblack", "extrasamples": [extra], "compression": "jpeg"}
    for tile in (None, (16, 16)):
        path = written(tmp_path / "a.tif", values, planarconfig="separate", tile=tile, **options)
        judged = stored(path).astype(float)
        share = judged[..., bands:] / 255 if extra == "unassalpha" else 1
        image = loaded(path)
        assert np.abs(image.pixels - (judged[..., :bands] * share + 255 * (1 - share))).max() <= 1
        assert len(image.notes) == (extra == "unspecified")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "LAB"])
def test_jpeg_of_other_colours(mode: str, tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(SMOOTH)
    picture.putalpha(PIL.Image.fromarray(SMOOTH[..., 1]))
    picture = picture.convert(mode) if mode != "LAB" else PIL.Image.fromarray(SMOOTH).convert(mode)
    picture.save(tmp_path / "a.tif", compression="jpeg", quality=100)
    expected = picture.convert("RGB")
    if mode != "LAB":
        expected = PIL.Image.alpha_composite(PIL.Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    assert np.abs(loaded(tmp_path / "a.tif").pixels - np.asarray(expected.convert("RGB")).astype(int)).max() <= 8


def test_jpeg_in_planes_of_ycbcr(tmp_path: Path) -> None:
    values = np.asarray(PIL.Image.fromarray(SMOOTH).convert("YCbCr"))
    path = written(tmp_path / "a.tif", values, photometric="ycbcr", compression="jpeg", planarconfig="separate")
    judged = PIL.Image.fromarray(np.ascontiguousarray(stored(path)), "YCbCr").convert("RGB")
    assert np.abs(loaded(path).pixels.astype(int) - np.asarray(judged)).max() <= 1


def test_jpeg_of_more_bands_or_bits_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", SMOOTH, photometric="rgb", compression="jpeg")
    overwrite(path, SamplesPerPixel=5)
    assert "compressed by JPEG and has 5 bands, uint8" in reason(path)
    path = written(tmp_path / "b.tif", SMOOTH[..., :1], photometric="minisblack", compression="jpeg")
    overwrite(path, BitsPerSample=12)
    assert "compressed by JPEG and has 1 band, uint12" in reason(path)


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("compression", [None, "lzw", "packbits", "jpeg"])
def test_a_truncated_tiff_fails(compression: str | None, tile: tuple[int, int] | None, tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", RGB, photometric="rgb", compression=compression, tile=tile, rowsperstrip=8)
    content = path.read_bytes()
    for share in (0.05, 0.3, 0.6, 0.9, 0.97):
        path.write_bytes(content[: int(len(content) * share)])
        assert "TIFF" in reason(path)


def test_damaged_compression_fails(tmp_path: Path) -> None:
    for compression in ("lzw", "deflate", "packbits"):
        path = written(tmp_path / "a.tif", RGB, photometric="rgb", compression=compression)
        with tifffile.TiffFile(path) as file:
            start, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        content = bytearray(path.read_bytes())
        content[start + count // 3 :] = bytes(len(content) - start - count // 3)
        path.write_bytes(content)
        assert "TIFF file is damaged" in reason(path)


def test_tags_that_make_no_pixels_may_hold_anything(tmp_path: Path) -> None:
    """Text that is not text, a date of the wrong type, offsets past the end, an EXIF directory that is none."""
    path = written(
        tmp_path / "a.tif", RGB, photometric="rgb", software="x", description="y", datetime="2020:01:01 00:00:00"
    )
    content = bytearray(path.read_bytes())
    table = struct.unpack_from("<I", content, 4)[0]
    for n in range(struct.unpack_from("<H", content, table)[0]):
        place = table + 2 + 12 * n
        tag = struct.unpack_from("<H", content, place)[0]
        if tag in (270, 305, 306, 282, 283):
            struct.pack_into("<HHII", content, place, {305: 34665, 306: 34675}.get(tag, tag), 77, 2**31, 2**32 - 9)
    path.write_bytes(content)
    assert np.array_equal(loaded(path).pixels, RGB)
    assert loaded(path).notes == ()


def test_counts_of_bytes_that_are_wrong_or_missing(tmp_path: Path) -> None:
    for compression in (None, "lzw"):
        path = written(tmp_path / "a.tif", RGB, photometric="rgb", compression=compression)
        overwrite(path, StripByteCounts=0)
        assert np.array_equal(loaded(path).pixels, RGB)


def test_a_page_that_is_a_copy_of_another_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", RGB, photometric="rgb", subfiletype=1)
    assert np.array_equal(loaded(path).pixels, RGB)
    assert "smaller copy" in loaded(path).notes[0]


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_a_file_that_does_not_say_what_its_values_mean(photometric: str, tmp_path: Path) -> None:
    values = RGB if photometric == "rgb" else RGB[..., :1]
    path = written(tmp_path / "a.tif", values, photometric=photometric)
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<HHI", 262, 3, 1))
    struct.pack_into("<H", content, place, 65000)
    path.write_bytes(content)
    image = loaded(path)
    assert np.array_equal(image.pixels, RGB if photometric == "rgb" else grey(values))
    assert "does not say what its values mean" in image.notes[0]


@pytest.mark.parametrize("compression", ["deflate", "jpeg"])
def test_tiles_of_a_bomb_are_not_unpacked(compression: str | None, tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", RGB, photometric="rgb", compression=compression, tile=(16, 16))
    overwrite(path, TileWidth=2**20, TileLength=2**20)
    assert "larger than any picture" in reason(path)
    overwrite(path, TileWidth=0)
    assert "no size" in reason(path)


def test_bands_of_different_depth_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", RGB, photometric="rgb")
    overwrite(path, BitsPerSample=(5, 6, 5))
    assert "bands of different bits (5, 6, 5)" in reason(path)
