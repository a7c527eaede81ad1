"""Pictures in every format, as files, and why one was not loaded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest

from pipelines.errors import ImageError
from pipelines.images.load import load
from pipelines.images.sources import ImageSource

RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
WRITTEN: dict[str, dict[str, Any]] = {  # format -> how to save it without loss, where it can
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
RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
LOSSLESS = ["PNG", "TIFF", "WEBP", "BMP", "JPEG2000", "PPM"]


def encoded(file_format: str, pixels: np.ndarray = RGB, **options: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, file_format, **{**WRITTEN[file_format], **options})
    return file.getvalue()


def reason(path: Path | str, **options: Any) -> str:
    with pytest.raises(ImageError) as error:
        load(ImageSource("x", str(path)), **options)
    text = str(error.value)
    assert text
    assert text.isprintable()
    return text
