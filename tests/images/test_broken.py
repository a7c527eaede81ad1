"""The loader and bad files: every one gives a reason in one line, and no bomb is unpacked."""

from __future__ import annotations

import errno
import io
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageFile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.image_files import FORMATS, RAMP, RGB, encoded, reason
from support.unprivileged import unprivileged

from pipelines.errors import ImageError
from pipelines.images.load import load
from pipelines.images.sources import ImageSource


def test_missing_and_vanished(tmp_path: Path) -> None:
    assert "there is no file" in reason(tmp_path / "gone.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    assert "there is no file" in reason(tmp_path / "link.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert "cannot be read" in reason(tmp_path / "loop.jpg")


def test_things_that_are_not_files(tmp_path: Path) -> None:
    assert "is a folder" in reason(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe" in reason(tmp_path / "pipe.jpg")
    assert "device" in reason("/dev/zero")
    for location in ("a\0b.jpg", "x" * 5000, "a\nb.jpg", "\udcff.jpg", "\ud800.jpg"):
        assert reason(location)


@pytest.mark.parametrize("good_reads", [0, 3])
def test_a_disk_that_fails(good_reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.BytesIO):
        reads = 0

        def read(self, *size: int) -> bytes:
            self.reads += 1
            if self.reads > good_reads:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(*size)

    monkeypatch.setattr("pipelines.images.load._open", lambda *_: Failing(encoded("JPEG")))
    assert reason("a.jpg") == "the file cannot be read: Input/output error"


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert reason(tmp_path / "a.jpg") == "the file is empty (0 bytes)"


def test_no_permission() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "a.png")
        path.write_bytes(encoded("PNG"))
        path.chmod(0)
        with unprivileged():
            assert "permission" in reason(path)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_fails(file_format: str, share: float, tmp_path: Path) -> None:
    content = encoded(file_format)
    path = tmp_path / "cut"
    path.write_bytes(content[: int(len(content) * share)])
    assert file_format in reason(path)


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}])
def test_a_truncated_jpeg_says_so(options: dict[str, Any], tmp_path: Path) -> None:
    content = encoded("JPEG", np.kron(RGB, np.ones((8, 8, 1), np.uint8)), **options)
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    assert reason(tmp_path / "cut.jpg") == "the JPEG file is truncated"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"just some text, nothing else", "not an image"),
        (b"\0" * 4096, "not an image"),
        (b"x", "not an image"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PF\n2 1\n-1.0\n" + bytes(24), "floating-point colours"),
        (b"P7\nWIDTH 2\n", "PAM"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF89a", "the GIF file is truncated"),
        (b"II*\0", "TIFF"),
        (b"BM", "BMP"),
        (b"P6\n0 0\n255\n", "PPM"),
    ],
)
def test_what_is_not_an_image_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert words in reason(tmp_path / "a.jpg")


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def test_zero_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(0, 5))
    assert "width or height is zero" in reason(tmp_path / "a.png")


def test_a_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png_header(100_000, 100_000))
    decoded = []
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda picture: decoded.append(picture))
    text = reason(tmp_path / "a.png")
    assert not decoded
    assert "100000 x 100000" in text
    assert "200,000,000" in text
    assert "--max-pixels" in text


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_limit_is_exact(file_format: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(encoded(file_format))
    assert load(ImageSource("a", str(path)), max_pixels=1200).height == 30
    assert "40 x 30" in reason(path, max_pixels=1199)


@pytest.mark.parametrize("file_format", FORMATS)
def test_pillows_own_limit_does_not_stand_in_the_way(
    file_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "a"
    path.write_bytes(encoded(file_format))
    assert load(ImageSource("a", str(path)), max_pixels=1200).height == 30


@pytest.mark.parametrize("name", ["WEBP", "GIF"])
def test_pillows_own_refusal_is_explained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: object, **_: object) -> None:
        raise PIL.Image.DecompressionBombError("Image size (9 pixels) exceeds limit of 8 pixels")

    content = encoded(name)
    if name == "GIF":  # a frame larger than the screen
        content = content[:6] + struct.pack("<HH", 1, 1) + content[10:]
    (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr(PIL.Image, "_decompression_bomb_check", refuse)
    assert "--max-pixels" in reason(tmp_path / "a")


SEEDS = {
    **{name: encoded(name) for name in FORMATS},
    "16-bit PNG": encoded("PNG", RAMP[:20, :20]),
    "palette GIF": encoded("GIF", RGB[..., 0], transparency=7, interlace=1),
    "RGBA PNG": encoded("PNG", np.dstack([RGB, RGB[..., 0]])),
    "LZW TIFF": encoded("TIFF", compression="tiff_lzw"),
    "JPEG TIFF": encoded("TIFF", compression="jpeg"),
    "float TIFF": encoded("TIFF", RGB[..., 0].astype(np.float32)),
    "progressive JPEG": encoded(
        "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"
    ),
}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = bytearray(SEEDS[draw(st.sampled_from(sorted(SEEDS)))])
    at_start = st.integers(0, min(120, len(content) - 1))
    for place in draw(st.lists(st.one_of(at_start, st.integers(0, len(content) - 1)), max_size=6)):
        content[place] ^= draw(st.integers(1, 255))
    return bytes(content[: draw(st.one_of(st.none(), st.integers(0, len(content))))])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "a.jpg"


@settings(max_examples=400)
@given(content=st.one_of(damaged(), st.binary(max_size=200)))
def test_any_bytes_give_an_image_or_an_image_error(content: bytes, scratch: Path) -> None:
    scratch.write_bytes(content)
    try:
        image = load(ImageSource("x", str(scratch)), max_pixels=100_000)
    except ImageError as error:
        assert str(error).isprintable()
        assert str(error)
    else:
        assert 0 < image.width * image.height <= 100_000
