"""The files of labels in a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import DataError

SUFFIXES = (".json", ".jsonl", ".xml", ".txt", ".csv", ".parquet")
_NAMES = (".yaml", ".yml", ".names")


def label_files(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Path]:
    """Files below a folder by suffix, sorted, hidden ones left out; links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot search the folder {error.filename}: {error.strerror}")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(suffixes) and not name.startswith(".") and Path(parent, name).is_file():
                yield Path(parent, name)  # a pipe would be waited for


def digest_of(path: Path) -> str:
    """The sha256 of a file; of a folder, of what its files of labels are called and hold. Raises OSError."""
    if not path.is_dir():
        return _sha256(path)
    whole = hashlib.sha256()
    for file in label_files(path, (*SUFFIXES, *_NAMES)):
        line = f"{file.relative_to(path).as_posix()}\0{_sha256(file)}\n"
        whole.update(line.encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
