"""The one door to weights: a name becomes a file, from the package, the user's cache or the network.

The cache is `EVSAM_HOME`, else the user's cache folder. A file lies at `<cache>/weights/<name>/<file>`, so
that all files of one name share a folder. `EVSAM_OFFLINE`, unless empty, 0, false, no or off, forbids the
network. `EVSAM_MIRROR` is a base URL put in the place of scheme and host: with `http://box:8000/hub`, the
file `https://huggingface.co/a/b/resolve/main/c.pt` is asked for at
`http://box:8000/hub/a/b/resolve/main/c.pt`.

A file whose sha256 the manifest does not know is locked to the one it first had, by `<file>.lock.json` beside it, and
must keep it, also when it is deleted and fetched again; to accept another, delete the lock, too, or import the other.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import platformdirs

from pipelines.errors import SetupError, UsageError, WeightsError
from weights import digest
from weights.manifest import WeightsFile, files, names, rows

if TYPE_CHECKING:
    from weights.download import Progress

__all__ = [
    "Verified",
    "alone",
    "fetch",
    "home",
    "import_file",
    "is_offline",
    "locate",
    "names",
    "rows",
    "state",
    "verify",
]

BUNDLED = Path(__file__).with_name("bundled")
_STARTS = {".safetensors": rb".{4}\x00{4}\{", ".pt": rb"PK\x03\x04|\x80", ".pth": rb"PK\x03\x04|\x80"}
"""How files of a kind start: a length and JSON, a zip, or a pickle."""


@dataclass(frozen=True)
class Verified:
    """A file that was read whole. against: where its sha256 was on record; None for nowhere."""

    path: Path
    sha256: str
    against: Literal["manifest", "lock"] | None


def home() -> Path:
    """evsam's cache folder: `EVSAM_HOME`, else the one the system gives each user. It need not exist.

    Raises SetupError when EVSAM_HOME names a user that there is not.
    """
    if chosen := os.environ.get("EVSAM_HOME"):
        try:
            return Path(chosen).expanduser().absolute()
        except RuntimeError as error:
            raise SetupError(f"EVSAM_HOME is {chosen!r}, but there is no such user") from error
    return platformdirs.user_cache_path("evsam", appauthor=False)


def is_offline() -> bool:
    """Whether `EVSAM_OFFLINE` forbids the network."""
    return os.environ.get("EVSAM_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def locate(name: str) -> Path | None:
    """The file to load for `name` if all its files are here, else None. Reads no file and no network."""
    paths = [_path(file) for file in files(name)]
    return paths[0] if all(map(_exists, paths)) else None


def state(name: str) -> Literal["bundled", "cached", "missing"]:
    """Where the files of `name` are."""
    if locate(name) is None:
        return "missing"
    return "bundled" if files(name)[0].bundled else "cached"


def fetch(name: str, *, offline: bool | None = None, progress: Progress | None = None) -> Path:
    """The file to load for `name`: bundled, cached, or downloaded now. Its other files lie beside it.

    offline: True forbids the network, False allows it, None asks `EVSAM_OFFLINE`. progress: called with the
    bytes that are here and the bytes of the whole file, during each download. Raises WeightsError when a
    file is missing, damaged or cannot be had, SetupError when the cache cannot be written, and
    UnknownNameError.
    """
    forbidden = is_offline() if offline is None else offline
    paths = [_fetch(file, forbidden, progress) for file in files(name)]
    return paths[0]


def verify(name: str) -> list[Verified]:
    """Read every file of `name` and compare its sha256. Raises WeightsError if one is missing or damaged."""
    return [_verify(file) for file in files(name)]


def import_file(path: Path, name: str | None = None) -> Path:
    """Copy a file the user has into the cache, as if it had been downloaded, and return where it is.

    It takes the place of one that is there, locked or not. name: the manifest's name; without it, the name of the file
    must tell. Raises UsageError when it does not or the file cannot be read, WeightsError when it is not the one the
    manifest promises, or not of its kind.
    """
    file = _recognise(path.name, name)
    destination = _path(file)
    try:
        source = path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    with source, alone(destination.parent):
        copy = destination.with_name(f"{destination.name}.import")
        try:
            with copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                os.fsync(target.fileno())
            actual = digest.sha256(copy)
            if fault := _fault(file, copy, actual, file.sha256) or _strange(file, copy):
                raise WeightsError(f"{path} is damaged or not the {file.filename} of {file.name}: {fault}")
            copy.replace(destination)
        finally:
            copy.unlink(missing_ok=True)
        digest.write_lock(destination, actual)
    return destination


def _path(file: WeightsFile) -> Path:
    return BUNDLED / file.bundled if file.bundled else home() / "weights" / file.name / file.filename


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        return False
    except OSError as error:
        raise SetupError(f"cannot look for {path} ({error.strerror}): set EVSAM_HOME to another folder") from error


def _fetch(file: WeightsFile, offline: bool, progress: Progress | None) -> Path:
    path = _path(file)
    if not _exists(path):
        if offline or file.bundled:
            raise _missing(file, " and evsam is offline")
        _download(file, path, progress)
    elif not file.bundled:
        with _reading(path):
            found = digest.fingerprint(path)
        actual = _check(file, path, found)
        with suppress(OSError):  # a cache shared read-only
            digest.write_lock(path, actual)
    return path


def _download(file: WeightsFile, path: Path, progress: Progress | None) -> None:
    from weights.download import Source, download

    with alone(path.parent):
        if not _exists(path):  # else another process has brought it meanwhile
            source = Source(_address(file), file.bytes, _expected(file)[0])
            digest.write_lock(path, download(source, path, progress))


def _verify(file: WeightsFile) -> Verified:
    path = _path(file)
    if not _exists(path):
        raise _missing(file)
    with _reading(path):
        found = digest.sha256(path)
    return Verified(path, _check(file, path, found), _expected(file)[1])


def _expected(file: WeightsFile) -> tuple[str | None, Literal["manifest", "lock"] | None]:
    """The sha256 that `file` must have, and who says so."""
    if file.sha256:
        return file.sha256, "manifest"
    lock = digest.read_lock(_path(file))
    return (lock.sha256, "lock") if lock else (None, None)


def _fault(file: WeightsFile, path: Path, actual: str, expected: str | None) -> str | None:
    """What keeps `path`, whose sha256 is `actual`, from being `file`; None when nothing does."""
    size = path.stat().st_size
    if file.bytes not in (None, size):
        return f"it has {size} bytes instead of {file.bytes}"
    if expected not in (None, actual):
        return f"its sha256 is {actual} instead of {expected}"
    return None


def _strange(file: WeightsFile, path: Path) -> str | None:
    """What shows that `path` is of another kind than `file`, whose sha256 nobody knows; None when nothing does."""
    with path.open("rb") as stream:
        start = stream.read(9)
    kind = Path(file.filename).suffix
    known = file.sha256 or re.match(_STARTS.get(kind, b""), start, re.DOTALL)
    return None if known else f"it does not start like a {kind} file: is it a web page?"


def _check(file: WeightsFile, path: Path, actual: str) -> str:
    """Return `actual`, the sha256 of `path`, if it is right for `file`; else raise WeightsError."""
    expected, against = _expected(file)
    fault = _fault(file, path, actual, expected)
    if fault is None:
        return actual
    gone = f"it and {digest.lock_path(path)}, which knows it," if against == "lock" else "it"
    remedy = "install evsam" if file.bundled else f"delete {gone} and run `evsam weights pull {file.name}`"
    raise WeightsError(f"{path} is damaged or another file: {fault}; {remedy} again")


def _missing(file: WeightsFile, why: str = "") -> WeightsError:
    if file.bundled:
        return WeightsError(f"{file.name}: {_path(file)} is missing from the package; install evsam again")
    return WeightsError(
        f"{file.name} is not on this machine{why}: there is no {_path(file)}. With a network, run"
        f" `evsam weights pull {file.name}`; without one, bring {file.url} here and run"
        f" `evsam weights import {file.filename} --as {file.name}`"
    )


def _address(file: WeightsFile) -> str:
    """Where to download `file`: its URL, or the same path on the mirror."""
    assert file.url is not None
    mirror = os.environ.get("EVSAM_MIRROR", "").rstrip("/")
    if not mirror:
        return file.url
    if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc:
        raise UsageError(f"EVSAM_MIRROR is {mirror!r}; it must be a URL such as https://mirror.example/hub")
    return mirror + urlsplit(file.url)._replace(scheme="", netloc="").geturl()


def _recognise(filename: str, name: str | None) -> WeightsFile:
    """The row meant by a file the user calls `filename`, and perhaps `name`."""
    candidates = [file for file in (files(name) if name else rows()) if not file.bundled]
    if name and not candidates:
        raise UsageError(f"{name} comes with the package and cannot be replaced")
    if name and len(candidates) == 1:
        return candidates[0]
    matches = [file for file in candidates if file.filename == filename]
    if len(matches) == 1:
        return matches[0]
    if name:
        expected = ", ".join(file.filename for file in candidates)
        raise UsageError(f"{name} has several files: rename {filename} to the one it is, of {expected}")
    raise UsageError(f"cannot tell what {filename} is: add `--as NAME`, one of {', '.join(names())}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what keeps the file from being read into a SetupError."""
    try:
        yield
    except OSError as error:
        raise SetupError(f"cannot read {path} ({error.strerror}): allow it, or set EVSAM_HOME to another") from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it: a second process waits here until the first is done or dead.

    What keeps the system from writing there becomes a SetupError.
    """
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise SetupError(f"no space left in {folder}: free some, or set EVSAM_HOME to another disk") from error
        raise SetupError(
            f"cannot write in {folder} ({error.strerror}): set EVSAM_HOME to a folder you can write to"
        ) from error
