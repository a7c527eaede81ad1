"""What a file must be whose content nobody has a hash of: of its kind, and about as large as announced.

Servers, proxies and hotels answer with a page where a file is expected; a mirror can hold half of one.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.errors import DataError, WeightsError
from pipelines.files import read_json, reading

_INSTEAD = {  # first bytes, as a pattern, of what often comes in the place of a file
    rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|script|!--)": "a web page",
    rb"(\xef\xbb\xbf)?\s*<\?xml": "an XML document",
    rb"version https://git-lfs": "a Git LFS pointer",
    rb"\x1f\x8b": "a gzip archive",
}
_SLACK = 1 << 16
"""Bytes by which the size of a small file may differ from the one announced, as configurations do."""
_PICKLE = 1 << 24
"""Bytes of a pickle that are looked through; tensors lie beside it."""


def most_bytes(about: int) -> int:
    """The largest size that a file can have of which `about` bytes are announced."""
    return 2 * about + _SLACK


def told(size: int, about: int | None) -> str:
    """As in "25 bytes, where about 620 MB are announced"."""
    from rich.filesize import decimal

    return decimal(size) + (f", where about {decimal(about, precision=0)} are announced" if about else "")


def what_came(path: Path, about: int | None = None) -> str | None:
    """What shows at once that `path` is no weights file of about so many bytes; None when nothing does.

    It completes "it ...", as in "is a web page (25 bytes, where about 620 MB are announced)".
    """
    with path.open("rb") as stream:
        start = stream.read(256)
    if not start:
        return "is empty"
    size = path.stat().st_size
    far = about is not None and not about // 2 - _SLACK <= size <= most_bytes(about)
    instead = next((what for pattern, what in _INSTEAD.items() if re.match(pattern, start)), None)
    if instead:
        return f"is {instead} ({told(size, about if far else None)})"
    return f"has {told(size, about)}" if far else None


def strange(path: Path, filename: str) -> str | None:
    """What keeps `path` from being of the kind that the name `filename` promises, or that is named; None when nothing.

    It completes "it ...", as in "is no vocabulary".
    """
    check = _KINDS.get(filename) or _KINDS.get(Path(filename).suffix)
    if check is None:
        return None
    try:
        return check(path)
    except (DataError, WeightsError) as error:
        return str(error).removeprefix(f"{path} ")


def _safetensors(path: Path) -> str | None:
    """Reads the header alone, whose offsets must fill the file."""
    from safetensors import safe_open

    from weights.loading import why_no_safetensors

    try:
        with safe_open(path, framework="numpy") as file:
            return None if file.keys() else "holds no tensor"
    except Exception as error:
        return why_no_safetensors(error)


def _checkpoint(path: Path, kind: str) -> None:
    from weights.loading import READERS, as_state_dict

    as_state_dict(path, READERS[kind](path))


def _ultralytics(path: Path) -> str | None:
    """Whether its pickle names one of ultralytics' networks; who loads it looks at what else it asks for."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            named = any(b"ultralytics.nn.tasks" in archive.open(name).read(_PICKLE) for name in pickles)
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError):
        return "is damaged, or no checkpoint"
    return None if named else "is no model of ultralytics"


def _configuration(path: Path) -> str | None:
    content = read_json(path, "a model's configuration")
    named = isinstance(content, dict) and isinstance(content.get("model_type"), str)
    return None if named else "is no model's configuration: it names no model_type"


def _vocabulary(path: Path) -> str | None:
    content: Any = read_json(path, "a vocabulary")
    if not isinstance(content, dict) or not all(type(number) is int and number >= 0 for number in content.values()):
        return "is no vocabulary: it gives no number to each token"
    if not content or len(set(content.values())) < len(content):
        return "is no vocabulary: its tokens have no numbers of their own"
    return None


def _merges(path: Path) -> str | None:
    with reading(path, "a list of merges"):
        lines = path.read_text(encoding="utf-8").split("\n")
    pairs = [line for line in lines if line and not line.startswith("#version")]
    if not pairs or any(len(line.split(" ")) != 2 for line in pairs):
        return "is no list of merges: it has no two tokens on each line"
    return None


def _words(path: Path) -> str | None:
    with reading(path, "a vocabulary"):
        words = path.read_text(encoding="utf-8").split("\n")
    return None if "[UNK]" in words else "is no vocabulary: it lacks [UNK]"


_KINDS: dict[str, Callable[[Path], str | None]] = {
    ".safetensors": _safetensors,
    **{kind: partial(_checkpoint, kind=kind) for kind in (".pt", ".pth", ".zip", ".onnx")},
    "ultralytics": _ultralytics,
    "config.json": _configuration,
    "vocab.json": _vocabulary,
    "merges.txt": _merges,
    "vocab.txt": _words,
}
"""By kind or file name, else by its ending."""
