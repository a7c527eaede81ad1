"""TIFF: of every kind of pixel, those of the file. An independent reader and writer, tifffile, is the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from support.tiff_files import (
    COMPRESSIONS,
    CONTAINERS,
    HEIGHT,
    LAYOUTS,
    WIDTH,
    grey,
    loaded,
    overwrite,
    packed,
    random,
    stored,
    ways,
    without,
    written,
)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 10, 11, 12, 14, 16])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_of_every_depth(photometric: str, bits: int, tmp_path: Path) -> None:
    values = random("u1" if bits <= 8 else "u2", 1, bits)
    expected = np.rint(values / (2**bits - 1) * 255).astype(int) if bits <= 8 else values >> (bits - 8)
    expected = 255 - expected if photometric == "miniswhite" else expected
    for way in ways(LAYOUTS[:2], CONTAINERS, COMPRESSIONS[:5]):
        path = packed(tmp_path / "a.tif", values, bits, photometric=photometric, **way)
        if bits not in (8, 16) or way["byteorder"] == ">":  # the bytes of 16 bits lie as those of a number here
            image = loaded(path)
            assert np.array_equal(stored(path), values), way
            assert np.array_equal(image.pixels, grey(expected)), way
            assert image.notes == ()
    if bits not in (8, 16):
        return
    for way in ways(LAYOUTS, CONTAINERS, COMPRESSIONS):
        path = written(tmp_path / "a.tif", values, photometric=photometric, **way)
        assert np.array_equal(stored(path), values), way
        assert np.array_equal(loaded(path).pixels, grey(expected)), way


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("extra", [0, 1, 2, 4])
def test_colour_of_every_order(dtype: str, extra: int, tmp_path: Path) -> None:
    values = random(dtype, 3 + extra)
    expected = (values[..., :3] >> (8 * values.itemsize - 8)).astype(np.uint8)
    separate = [{"planarconfig": "contig"}, {"planarconfig": "separate"}]
    for way in ways(LAYOUTS, CONTAINERS, COMPRESSIONS, separate):
        unknown = {"extrasamples": ["unspecified"] * extra} if extra else {}
        path = written(tmp_path / "a.tif", values, photometric="rgb", **unknown, **way)
        assert np.array_equal(stored(path), values), way
        image = loaded(path)
        assert np.array_equal(image.pixels, expected), way
        assert [f"3 of its {3 + extra} bands are read" in note for note in image.notes] == [True] * bool(extra)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u4", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_without_a_range_is_stretched(dtype: str, photometric: str, tmp_path: Path) -> None:
    values = random(dtype, 1)
    low, high = float(values.min()), float(values.max())
    expected = (values.astype(float) / 2 - low / 2) / (high / 2 - low / 2) * 255
    expected = 255 - expected if photometric == "miniswhite" else expected
    compressions = COMPRESSIONS[:5] if dtype[0] == "f" or dtype[1] == "8" else COMPRESSIONS
    if dtype[0] == "f":
        compressions = [*compressions, {"compression": "deflate", "predictor": 3}]
    for way in ways(LAYOUTS, CONTAINERS, compressions):
        path = written(tmp_path / "a.tif", values, photometric=photometric, **way)
        assert np.array_equal(stored(path), values), way
        assert np.abs(loaded(path).pixels.astype(float) - grey(expected)).max() <= 0.51, way


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified", None])
@pytest.mark.parametrize("colour", ["rgb", "minisblack", "miniswhite", "separated"])
def test_a_band_is_transparency_only_where_the_file_says_so(
    colour: str, kind: str | None, dtype: str, tmp_path: Path
) -> None:
    bands = {"rgb": 3, "separated": 4}.get(colour, 1)
    alpha = random(dtype, 1)
    colours = random(dtype, bands)
    alpha[0], alpha[1] = 0, np.iinfo(dtype).max
    if kind == "assocalpha":
        colours = np.minimum(colours, alpha)
    high = 8 * alpha.itemsize - 8
    eight, share = (colours >> high).astype(float), (alpha >> high) / 255
    if kind == "assocalpha":
        eight = np.divide(eight, share, out=np.zeros_like(eight), where=share > 0).clip(0, 255)
    if colour == "separated":
        eight = (255 - eight[..., :3]) * (255 - eight[..., 3:]) / 255
    elif colour == "miniswhite":
        eight = 255 - eight
    transparent = kind in ("unassalpha", "assocalpha")
    expected = eight * share + 255 * (1 - share) if transparent else eight
    extra = {} if kind is None else {"extrasamples": [kind]}
    for way in ways(
        LAYOUTS, CONTAINERS[:2], COMPRESSIONS[:2], [{"planarconfig": "contig"}, {"planarconfig": "separate"}]
    ):
        path = written(tmp_path / "a.tif", np.dstack([colours, alpha]), photometric=colour, **extra, **way)
        if kind is None:
            without(path, "ExtraSamples")
        image = loaded(path)
        assert np.abs(image.pixels - expected).max() <= 2, way
        assert len(image.notes) == (not transparent)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_palettes(bits: int, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 65536, (3, 2**bits), np.uint16)
    values = random("u1" if bits <= 8 else "u2", 1, bits)
    expected = (colours.T >> 8).astype(np.uint8)[values[..., 0]]
    for way in ways(LAYOUTS[:2], CONTAINERS, COMPRESSIONS[:4]):
        if bits == 16 and way["byteorder"] == "<":
            continue
        extra = [(320, "H", colours.size, tuple(colours.ravel().tolist()))]
        path = packed(tmp_path / "a.tif", values, bits, photometric="palette", extratags=extra, **way)
        assert np.array_equal(loaded(path).pixels, expected), way


def test_a_palette_of_eight_bits_is_told(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 256), np.uint16)
    values = random("u1", 1)
    path = written(tmp_path / "a.tif", values, photometric="palette", colormap=colours)
    image = loaded(path)
    assert np.array_equal(image.pixels, colours.T.astype(np.uint8)[values[..., 0]])
    assert "palette has values of 8 bits" in image.notes[0]


def test_a_palette_with_more_bands(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256), np.uint16)
    extra = [(320, "H", 768, tuple(colours.ravel().tolist()))]
    values = np.dstack([random("u1", 1), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    for kind, notes in (("unassalpha", 0), ("unspecified", 1)):
        path = written(tmp_path / "a.tif", values, photometric="minisblack", extrasamples=[kind], extratags=extra)
        overwrite(path, PhotometricInterpretation=3)
        assert np.array_equal(loaded(path).pixels, (colours.T >> 8)[values[..., 0]])
        assert len(loaded(path).notes) == notes


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_lab_and_ycbcr(planar: str, dtype: str, tmp_path: Path) -> None:
    shift = 8 * np.dtype(dtype).itemsize - 8
    flat = PIL.Image.new("RGB", (WIDTH, HEIGHT), (200, 80, 40))
    lab = np.asarray(flat.convert("LAB"))
    ycbcr = np.asarray(flat.convert("YCbCr"))
    for colour, values in (("cielab", lab), ("ycbcr", ycbcr)):
        for way in ways(LAYOUTS, CONTAINERS, COMPRESSIONS):
            subsampling = [(530, "H", 2, (1, 1))] if colour == "ycbcr" else []
            deep = values.astype(dtype) << shift
            options = {"photometric": colour, "planarconfig": planar, "extratags": subsampling, **way}
            path = written(tmp_path / "a.tif", deep, **options)
            assert np.abs(loaded(path).pixels.astype(int) - (200, 80, 40)).max() <= 3, way


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 2), (4, 4)])
@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("rows", [37, 8])
def test_colour_shared_by_pixels(
    subsampling: tuple[int, int], compression: str | None, rows: int, tmp_path: Path
) -> None:
    """Units of Y, Cb, Cr are rows of bytes to tifffile, which reads none of them: OpenCV judges, by libtiff."""
    import cv2

    across, down = subsampling
    rng = np.random.default_rng(1)
    units_x, units_y = -(-WIDTH // across), -(-HEIGHT // down)
    content = rng.integers(60, 190, (units_y, units_x * (across * down + 2)), np.uint8)
    extra = [(530, "H", 2, subsampling), (532, "2I", 6, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1))]
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        content,
        metadata=None,
        photometric="minisblack",
        rowsperstrip=rows // down or 1,
        compression=compression,
        extratags=extra,
    )
    overwrite(path, ImageWidth=WIDTH, ImageLength=HEIGHT, RowsPerStrip=(rows // down or 1) * down)
    overwrite(path, PhotometricInterpretation=6, SamplesPerPixel=3, BitsPerSample=(8, 8, 8))
    judged = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    whole = np.s_[:32, :48] if subsampling == (4, 4) else np.s_[:]  # libtiff slips where such a unit is cut
    assert np.abs(loaded(path).pixels - judged)[whole].max() <= 2
