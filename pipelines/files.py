"""Writing files so that a reader, or a run that is killed, never meets half of one."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pipelines.errors import SetupError


@contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path; when the block ends well, rename it to `path`, else delete it.

    scratch: folder for the temporary file, on the same file system as `path`; default: beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (scratch or path.parent) / f".{uuid.uuid4().hex}{path.suffix}"
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Find out early whether the folder can be written to. Raises SetupError."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the faults of a disk into a SetupError."""
    try:
        yield
    except OSError as error:
        raise SetupError(f"cannot write to {folder}: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by `content` as JSON that a person can read."""
    write_text(path, to_json(content, indent=1) + "\n")


def to_json(content: Any, **layout: Any) -> str:
    """JSON whose letters stay as they are, unless one is a byte of a file name that is no text."""
    text = json.dumps(content, ensure_ascii=False, **layout)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, **layout)
    return text
