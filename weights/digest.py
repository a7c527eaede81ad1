"""What a weights file holds: its sha256, and the lock beside it that remembers what was first accepted."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.errors import DataError
from pipelines.files import read_json, write_text


@dataclass(frozen=True)
class Lock:
    """What a file was when it was accepted, kept beside it as `<file>.lock.json`."""

    sha256: str
    bytes: int
    mtime_ns: int


def sha256(path: Path) -> str:
    """The sha256 of a file, as 64 hex digits, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """The sha256 of a file; one that still has the size and time it was locked with is not read again."""
    lock, stat = read_lock(path), path.stat()
    if lock is not None and (lock.bytes, lock.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
        return lock.sha256
    return sha256(path)


def lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock.json")


def read_lock(path: Path) -> Lock | None:
    """The lock of the file `path`; None when it has none, or a damaged one."""
    try:
        lock = Lock(**read_json(lock_path(path), "a lock"))
    except (DataError, TypeError):
        return None
    sound = isinstance(lock.sha256, str) and re.fullmatch("[0-9a-f]{64}", lock.sha256)
    return lock if sound and type(lock.bytes) is type(lock.mtime_ns) is int else None


def write_lock(path: Path, digest: str) -> None:
    """Lock the file `path` to its sha256 `digest`, in one step, unless it is so already."""
    stat = path.stat()
    lock = Lock(digest, stat.st_size, stat.st_mtime_ns)
    if lock != read_lock(path):
        write_text(lock_path(path), json.dumps(asdict(lock)) + "\n")
