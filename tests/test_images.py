"""The loader: every kind of pixel becomes upright RGB by its rule, every bad file and server a one-line reason."""

from __future__ import annotations

import errno
import http.server
import io
import os
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import images
from pipelines.errors import ImageError
from pipelines.images import load
from pipelines.sources import Source

RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
WRITTEN = {  # format -> how to save it without loss, where it can
    "JPEG": {"quality": 95},
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "JPEG2000": {},
    "PPM": {},
    "AVIF": {"quality": 100},
}
PIL.Image.init()
FORMATS = [name for name in WRITTEN if name in PIL.Image.SAVE]  # Pillow may lack AVIF
LOSSLESS = ["PNG", "TIFF", "WEBP", "BMP", "JPEG2000", "PPM"]


def encoded(file_format: str, pixels: np.ndarray = RGB, **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, file_format, **{**WRITTEN[file_format], **options})
    return file.getvalue()


@pytest.fixture
def pixels_of(tmp_path: Path):
    """Load bytes, a Pillow picture or a path; return H x W x 3."""

    def pixels(content: bytes | PIL.Image.Image | Path, file_format: str = "PNG", **options: object) -> np.ndarray:
        path = tmp_path / "image" if not isinstance(content, Path) else content
        if isinstance(content, PIL.Image.Image):
            content.save(path, file_format, **options)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        image = load(Source("the name", str(path)))
        assert image.name == "the name"
        assert image.pixels.dtype == np.uint8
        assert image.pixels.flags.c_contiguous
        return image.pixels

    return pixels


def reason(path: Path | str, **options: float) -> str:
    with pytest.raises(ImageError) as error:
        load(Source("x", str(path)), **options)
    text = str(error.value)
    assert text
    assert text.isprintable()
    return text


# What becomes of pixels


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_gives_the_pixels_back(file_format, pixels_of):
    smooth = np.stack(np.broadcast_arrays(*np.ogrid[60:90, 100:140], 50), axis=-1).astype(np.uint8)
    got = pixels_of(encoded(file_format, smooth))
    assert got.shape == smooth.shape
    assert np.abs(got.astype(int) - smooth).max() <= (0 if file_format in LOSSLESS else 8)


def test_formats_are_told_by_content_not_by_extension(tmp_path, pixels_of):
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
def test_exif_orientation_is_applied_once(file_format, options, orientation, pixels_of):
    blocks = np.kron(RGB[:3, :4] // 2 + 60, np.ones((16, 16, 1), np.uint8)).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = orientation
    got = pixels_of(encoded(file_format, blocks, exif=exif, **options))
    plain = pixels_of(encoded(file_format, blocks, **options))
    assert np.array_equal(got, UPRIGHT[orientation](plain))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_ignored(value, pixels_of):
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = value
    assert np.array_equal(pixels_of(encoded("PNG", exif=exif)), RGB)


def test_grey_and_one_bit(pixels_of):
    grey = RGB[..., 0]
    assert np.array_equal(pixels_of(encoded("PNG", grey)), np.stack([grey] * 3, axis=-1))
    bits = grey > 127
    assert np.array_equal(pixels_of(PIL.Image.fromarray(bits))[..., 1], bits * np.uint8(255))


RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


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
def test_sixteen_bits_keep_their_high_byte(dtype, file_format, options, pixels_of):
    mode = {"<": "I;16", ">": "I;16B"}[dtype[0]]
    picture = PIL.Image.frombytes(mode, RAMP.shape, RAMP.astype(dtype).tobytes())
    got = pixels_of(picture, file_format, **options)
    assert np.array_equal(got, np.repeat((RAMP >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_sixteen_bit_colour_keeps_its_high_byte(pixels_of):
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
def test_grey_without_a_range_is_stretched(values, pixels_of):
    got = pixels_of(PIL.Image.fromarray(values), "TIFF")[0, :, 0]
    assert got[0] == 0
    assert got[2] == 255
    assert 80 <= got[1] <= 130


def test_what_is_not_finite_in_a_float_image(pixels_of):
    values = np.array([[np.nan, np.inf, -np.inf, 1, 3]], np.float32)
    assert pixels_of(PIL.Image.fromarray(values), "TIFF")[0, :, 0].tolist() == [0, 255, 0, 0, 255]
    for flat in (np.full((2, 2), 7.5, np.float32), np.full((2, 2), np.nan, np.float32)):
        assert not pixels_of(PIL.Image.fromarray(flat), "TIFF").any()


def test_portable_float_map(pixels_of):
    assert pixels_of(b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 2, 4))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_put_on_white(file_format, pixels_of):
    alpha = np.arange(0, 240, 6, dtype=np.uint8)[None, :].repeat(30, 0)
    alpha[:, -1] = 255
    got = pixels_of(encoded(file_format, np.dstack([RGB, alpha]), **({"exact": True} if file_format == "WEBP" else {})))
    share = alpha[..., None] / 255
    assert np.abs(got - (RGB * share + 255 * (1 - share))).max() <= 1
    assert (got[:, 0] == 255).all()
    assert np.array_equal(got[:, -1], RGB[:, -1])


def test_opaque_alpha_changes_nothing(pixels_of):
    assert np.array_equal(pixels_of(encoded("PNG", np.dstack([RGB, np.full((30, 40), 255, np.uint8)]))), RGB)


def test_grey_with_alpha(pixels_of):
    picture = PIL.Image.fromarray(np.array([[[0, 0], [0, 255], [9, 255]]], np.uint8), "LA")
    assert pixels_of(picture)[0, :, 2].tolist() == [255, 0, 9]


@pytest.mark.parametrize(("file_format", "transparency"), [("PNG", 1), ("PNG", b"\xff\x00\xff"), ("GIF", 1)])
def test_palette_transparency(file_format, transparency, pixels_of):
    picture = PIL.Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    wanted = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert pixels_of(picture, file_format)[0].tolist() == wanted
    wanted[1] = [255, 255, 255]
    assert pixels_of(picture, file_format, transparency=transparency)[0].tolist() == wanted


def test_colour_key_transparency(pixels_of):
    red = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    got = pixels_of(PIL.Image.fromarray(red), "PNG", transparency=(255, 0, 0))
    assert got[0].tolist() == [[255, 255, 255], [0, 255, 0]]


@pytest.mark.parametrize(
    ("mode", "file_format"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG"), ("LAB", "TIFF")]
)
def test_other_colour_spaces(mode, file_format, pixels_of):
    flat = PIL.Image.new("RGB", (32, 32), (200, 80, 40))
    got = pixels_of(flat.convert(mode), file_format)
    assert np.abs(got[16, 16].astype(int) - (200, 80, 40)).max() <= 4


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_taken(file_format, pixels_of):
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    got = pixels_of(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert np.abs(got.astype(int) - (255, 0, 0)).max() <= 4


def test_threads_share_the_loader(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(16)]
    for i, path in enumerate(paths):
        PIL.Image.new("RGB", (20, 20), (i, 0, 0)).save(path)
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(load, [Source(str(i), str(path)) for i, path in enumerate(paths)] * 4))
    assert [int(image.pixels[0, 0, 0]) for image in loaded] == list(range(16)) * 4


# What cannot be loaded


def test_missing_and_vanished(tmp_path):
    assert "there is no file" in reason(tmp_path / "gone.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    assert "there is no file" in reason(tmp_path / "link.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert "cannot be read" in reason(tmp_path / "loop.jpg")


def test_things_that_are_not_files(tmp_path):
    assert "is a folder" in reason(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe" in reason(tmp_path / "pipe.jpg")
    assert "device" in reason("/dev/zero")
    for location in ("a\0b.jpg", "x" * 5000, "a\nb.jpg", "\udcff.jpg", "\ud800.jpg"):
        assert reason(location)


@pytest.mark.parametrize("good_reads", [0, 3])
def test_a_disk_that_fails(good_reads, monkeypatch):
    class Failing(io.BytesIO):
        reads = 0

        def read(self, *size: int) -> bytes:
            self.reads += 1
            if self.reads > good_reads:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(*size)

    monkeypatch.setattr(images, "_open", lambda *_: Failing(encoded("JPEG")))
    assert reason("a.jpg") == "the file cannot be read: Input/output error"


def test_empty(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert reason(tmp_path / "a.jpg") == "the file is empty (0 bytes)"


def test_no_permission():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "a.png")
        path.write_bytes(encoded("PNG"))
        path.chmod(0)
        with unprivileged():
            assert "permission" in reason(path)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything: be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_fails(file_format, share, tmp_path):
    content = encoded(file_format)
    path = tmp_path / "cut"
    path.write_bytes(content[: int(len(content) * share)])
    assert file_format in reason(path)


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}])
def test_a_truncated_jpeg_says_so(options, tmp_path):
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
def test_what_is_not_an_image_is_named(content, words, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    assert words in reason(tmp_path / "a.jpg")


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def test_zero_size(tmp_path):
    (tmp_path / "a.png").write_bytes(png_header(0, 5))
    assert "width or height is zero" in reason(tmp_path / "a.png")


def test_a_bomb_is_refused_by_its_header(tmp_path):
    (tmp_path / "a.png").write_bytes(png_header(100_000, 100_000))
    started = time.perf_counter()
    text = reason(tmp_path / "a.png")
    assert time.perf_counter() - started < 5
    assert "100000 x 100000" in text
    assert "200,000,000" in text
    assert "--max-pixels" in text


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_limit_is_exact(file_format, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(encoded(file_format))
    assert load(Source("a", str(path)), max_pixels=1200).height == 30
    assert "40 x 30" in reason(path, max_pixels=1199)


@pytest.mark.parametrize("file_format", FORMATS)
def test_pillows_own_limit_does_not_stand_in_the_way(file_format, tmp_path, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "a"
    path.write_bytes(encoded(file_format))
    assert load(Source("a", str(path)), max_pixels=1200).height == 30


@pytest.mark.parametrize("name", ["WEBP", "GIF", "TIFF"])
def test_pillows_own_refusal_is_explained(name, tmp_path, monkeypatch):
    def refuse(size: object, **_: object) -> None:
        raise PIL.Image.DecompressionBombError("Image size (9 pixels) exceeds limit of 8 pixels")

    content = encoded(name)
    if name == "GIF":  # a frame larger than the screen
        content = content[:6] + struct.pack("<HH", 1, 1) + content[10:]
    (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr(PIL.Image, "_decompression_bomb_check", refuse)
    assert "--max-pixels" in reason(tmp_path / "a")


def test_broken_metadata_does_not_lose_the_picture_and_pillow_stays_quiet(tmp_path, recwarn, pixels_of):
    content = encoded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0")
    with pytest.warns(UserWarning), PIL.Image.open(io.BytesIO(content)) as picture:
        picture.getexif()
    recwarn.clear()
    assert pixels_of(content).shape == RGB.shape
    assert pixels_of(encoded("PNG", exif=b"no EXIF at all")).shape == RGB.shape
    assert not recwarn.list


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


@settings(max_examples=400, deadline=None)
@given(content=st.one_of(damaged(), st.binary(max_size=200)))
def test_any_bytes_give_an_image_or_an_image_error(content, scratch):
    scratch.write_bytes(content)
    try:
        image = load(Source("x", str(scratch)), max_pixels=100_000)
    except ImageError as error:
        assert str(error).isprintable()
        assert str(error)
    else:
        assert 0 < image.width * image.height <= 100_000


# URLs


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.strip("/").partition("?")[0]
        body = b"" if name == "empty" else encoded("PNG")
        if name == "slow":
            time.sleep(1)
        if name == "drop":
            return
        status = {"missing": 404, "broken": 500, "moved": 302, "away": 302, "round": 302}.get(name, 200)
        self.send_response(status, "\x1b[31mred alert" if name == "broken" else None)
        if name == "moved":
            self.send_header("Location", "/a.png")
        if name == "away":
            self.send_header("Location", "file:///etc/hostname")
        if name == "round":
            self.send_header("Location", "/round")
        self.send_header("Content-Length", str(len(body) + (500 if name in ("cut", "stall") else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if name == "stall":
            time.sleep(1)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("path", ["a.png", "a.png?size=large", "moved"])
def test_a_url_is_loaded(path, server):
    assert np.array_equal(load(Source("a", f"{server}/{path}")).pixels, RGB)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing", "HTTP 404"),
        ("broken", "HTTP 500 [31mred alert"),
        ("empty", "0 bytes"),
        ("slow", "did not answer within 0.3 s"),
        ("stall", "did not answer within 0.3 s"),
        ("cut", "cut the download short"),
        ("drop", "closed the connection"),
        ("away", "cannot be downloaded"),
        ("round", "cannot be downloaded"),
    ],
)
def test_what_a_server_does_wrong_is_named(path, words, server):
    assert words in reason(f"{server}/{path}", timeout=0.3)


def test_a_download_is_bounded(server, monkeypatch):
    monkeypatch.setattr(images, "MAX_DOWNLOAD_BYTES", 1000)
    assert "larger than 1,000 bytes" in reason(f"{server}/a.png")


def test_nobody_answers():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be reached" in reason(f"http://127.0.0.1:{port}/a.png", timeout=2)


@pytest.mark.parametrize("url", ["http://", "http:///a.jpg", "http://[::1", "http://.bad/a.jpg", "https://a:b/c.jpg"])
def test_urls_that_are_none(url):
    assert reason(url, timeout=2)
