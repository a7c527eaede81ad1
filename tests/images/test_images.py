"""The loader: every kind of pixel becomes upright RGB by its rule."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
from support.image_files import FORMATS, LOSSLESS, RAMP, RGB, encoded

from pipelines.images.load import load
from pipelines.images.sources import ImageSource

Pixels = Callable[..., np.ndarray]


@pytest.fixture
def pixels_of(tmp_path: Path) -> Pixels:
    """Load bytes, a Pillow picture or a path; return H x W x 3."""

    def pixels(content: bytes | PIL.Image.Image | Path, file_format: str = "PNG", **options: object) -> np.ndarray:
        path = tmp_path / "image" if not isinstance(content, Path) else content
        if isinstance(content, PIL.Image.Image):
            content.save(path, file_format, **options)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        image = load(ImageSource("the name", str(path)))
        assert image.name == "the name"
        assert image.pixels.dtype == np.uint8
        assert image.pixels.flags.c_contiguous
        return image.pixels

    return pixels


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_gives_the_pixels_back(file_format: str, pixels_of: Pixels) -> None:
    smooth = np.stack(np.broadcast_arrays(*np.ogrid[60:90, 100:140], 50), axis=-1).astype(np.uint8)
    got = pixels_of(encoded(file_format, smooth))
    assert got.shape == smooth.shape
    assert np.abs(got.astype(int) - smooth).max() <= (0 if file_format in LOSSLESS else 8)


def test_formats_are_told_by_content_not_by_extension(tmp_path: Path, pixels_of: Pixels) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded("PNG"))
    assert np.array_equal(pixels_of(path), RGB)


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("WEBP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("JPEG", {})],
)
def test_exif_orientation_is_applied_once(
    file_format: str, options: dict[str, Any], orientation: int, pixels_of: Pixels
) -> None:
    blocks = np.kron(RGB[:3, :4] // 2 + 60, np.ones((16, 16, 1), np.uint8)).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = orientation
    got = pixels_of(encoded(file_format, blocks, exif=exif, **options))
    plain = pixels_of(encoded(file_format, blocks, **options))
    assert np.array_equal(got, UPRIGHT[orientation](plain))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("JPEG", {}),
        *([("AVIF", {})] if "AVIF" in FORMATS else []),
    ],
)
def test_pixels_as_they_are_stored(file_format: str, options: dict[str, Any], orientation: int, tmp_path: Path) -> None:
    """In every format alike: also where Pillow turns a picture by itself. The orientation is told either way."""
    blocks = np.kron(RGB[:3, :4] // 2 + 60, np.ones((16, 16, 1), np.uint8)).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = orientation
    source = ImageSource("x", str(tmp_path / "x"))
    (tmp_path / "x").write_bytes(encoded(file_format, blocks, **options))
    plain = load(source)
    (tmp_path / "x").write_bytes(encoded(file_format, blocks, exif=exif, **options))
    stored = load(source, upright=False)
    assert np.array_equal(stored.pixels, plain.pixels)
    assert stored.pixels.flags.c_contiguous
    assert (plain.orientation, stored.orientation, load(source).orientation) == (1, orientation, orientation)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_ignored(value: int, pixels_of: Pixels) -> None:
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = value
    assert np.array_equal(pixels_of(encoded("PNG", exif=exif)), RGB)


def test_grey_and_one_bit(pixels_of: Pixels) -> None:
    grey = RGB[..., 0]
    assert np.array_equal(pixels_of(encoded("PNG", grey)), np.stack([grey] * 3, axis=-1))
    bits = grey > 127
    assert np.array_equal(pixels_of(PIL.Image.fromarray(bits))[..., 1], bits * np.uint8(255))


@pytest.mark.parametrize(
    ("dtype", "file_format", "options"),
    [
        ("<u2", "PNG", {}),
        ("<u2", "TIFF", {}),
        ("<u2", "TIFF", {"compression": "tiff_lzw"}),
        (">u2", "TIFF", {}),
        ("<u2", "PPM", {}),
        ("<u2", "JPEG2000", {}),
    ],
)
def test_sixteen_bits_keep_their_high_byte(
    dtype: str, file_format: str, options: dict[str, Any], pixels_of: Pixels
) -> None:
    mode = {"<": "I;16", ">": "I;16B"}[dtype[0]]
    picture = PIL.Image.frombytes(mode, RAMP.shape, RAMP.astype(dtype).tobytes())
    got = pixels_of(picture, file_format, **options)
    assert np.array_equal(got, np.repeat((RAMP >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_sixteen_bit_colour_keeps_its_high_byte(pixels_of: Pixels) -> None:
    import cv2

    colour = np.random.default_rng(1).integers(0, 65536, (8, 9, 3), dtype=np.uint16)
    content = cv2.imencode(".png", colour[..., ::-1])[1].tobytes()
    assert np.array_equal(pixels_of(content), (colour >> 8).astype(np.uint8))


@pytest.mark.parametrize(
    "values",
    [
        np.array([[-100, 0, 100]], np.int32),
        np.array([[0, 70_000, 140_000]], np.int32),
        np.array([[0, 0.5, 1]], np.float32),
        np.array([[-3e38, 0, 3e38]], np.float32),
        np.array([[0, 1e-45, 3e-45]], np.float32),
    ],
)
def test_grey_without_a_range_is_stretched(values: np.ndarray, pixels_of: Pixels) -> None:
    got = pixels_of(PIL.Image.fromarray(values), "TIFF")[0, :, 0]
    assert got[0] == 0
    assert got[2] == 255
    assert 80 <= got[1] <= 130


def test_what_is_not_finite_in_a_float_image(pixels_of: Pixels) -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 1, 3]], np.float32)
    assert pixels_of(PIL.Image.fromarray(values), "TIFF")[0, :, 0].tolist() == [0, 255, 0, 0, 255]
    for flat in (np.full((2, 2), 7.5, np.float32), np.full((2, 2), np.nan, np.float32)):
        assert not pixels_of(PIL.Image.fromarray(flat), "TIFF").any()


def test_portable_float_map(pixels_of: Pixels) -> None:
    assert pixels_of(b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 2, 4))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_put_on_white(file_format: str, pixels_of: Pixels) -> None:
    alpha = np.arange(0, 240, 6, dtype=np.uint8)[None, :].repeat(30, 0)
    alpha[:, -1] = 255
    got = pixels_of(encoded(file_format, np.dstack([RGB, alpha]), **({"exact": True} if file_format == "WEBP" else {})))
    share = alpha[..., None] / 255
    assert np.abs(got - (RGB * share + 255 * (1 - share))).max() <= 1
    assert (got[:, 0] == 255).all()
    assert np.array_equal(got[:, -1], RGB[:, -1])


def test_opaque_alpha_changes_nothing(pixels_of: Pixels) -> None:
    assert np.array_equal(pixels_of(encoded("PNG", np.dstack([RGB, np.full((30, 40), 255, np.uint8)]))), RGB)


def test_grey_with_alpha(pixels_of: Pixels) -> None:
    picture = PIL.Image.fromarray(np.array([[[0, 0], [0, 255], [9, 255]]], np.uint8), "LA")
    assert pixels_of(picture)[0, :, 2].tolist() == [255, 0, 9]


@pytest.mark.parametrize(("file_format", "transparency"), [("PNG", 1), ("PNG", b"\xff\x00\xff"), ("GIF", 1)])
def test_palette_transparency(file_format: str, transparency: int | bytes, pixels_of: Pixels) -> None:
    picture = PIL.Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    wanted = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert pixels_of(picture, file_format)[0].tolist() == wanted
    wanted[1] = [255, 255, 255]
    assert pixels_of(picture, file_format, transparency=transparency)[0].tolist() == wanted


def test_colour_key_transparency(pixels_of: Pixels) -> None:
    red = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    got = pixels_of(PIL.Image.fromarray(red), "PNG", transparency=(255, 0, 0))
    assert got[0].tolist() == [[255, 255, 255], [0, 255, 0]]


@pytest.mark.parametrize(
    ("mode", "file_format"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG"), ("LAB", "TIFF")]
)
def test_other_colour_spaces(mode: str, file_format: str, pixels_of: Pixels) -> None:
    flat = PIL.Image.new("RGB", (32, 32), (200, 80, 40))
    got = pixels_of(flat.convert(mode), file_format)
    assert np.abs(got[16, 16].astype(int) - (200, 80, 40)).max() <= 4


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_taken(file_format: str, pixels_of: Pixels) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    got = pixels_of(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert np.abs(got.astype(int) - (255, 0, 0)).max() <= 4


def test_threads_share_the_loader(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(16)]
    for i, path in enumerate(paths):
        PIL.Image.new("RGB", (20, 20), (i, 0, 0)).save(path)
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(load, [ImageSource(str(i), str(path)) for i, path in enumerate(paths)] * 4))
    assert [int(image.pixels[0, 0, 0]) for image in loaded] == list(range(16)) * 4


def test_broken_metadata_does_not_lose_the_picture_and_pillow_stays_quiet(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, pixels_of: Pixels
) -> None:
    content = encoded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0")
    with pytest.warns(UserWarning), PIL.Image.open(io.BytesIO(content)) as picture:
        picture.getexif()
    recwarn.clear()
    assert pixels_of(content).shape == RGB.shape
    assert pixels_of(encoded("PNG", exif=b"no EXIF at all")).shape == RGB.shape
    assert not recwarn.list
