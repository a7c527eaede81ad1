"""Where weights lie: in the package, in evsam's cache or in the Hugging Face Hub's; and whether they look right."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from pipelines.errors import SetupError
from weights import hub, kinds
from weights.manifest import WeightsFile

BUNDLED = Path(__file__).with_name("bundled")


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


def path_of(file: WeightsFile) -> Path:
    """Where the file is, or would be, in the package or in evsam's cache."""
    return BUNDLED / file.bundled if file.bundled else home() / "weights" / file.name / file.filename


def here(file: WeightsFile) -> Path | None:
    """Where the file is, in evsam's cache or in the Hub's."""
    path = path_of(file)
    return path if exists(path) else next(shared(file), None)


def shared(file: WeightsFile) -> Iterator[Path]:
    """Those in the Hub's cache that can be the file, as far as can be seen at a glance."""
    for path in in_hub(file):
        with suppress(OSError):
            if not glance(file, path):
                yield path


def in_hub(file: WeightsFile) -> list[Path]:
    """Those in the Hub's cache that have the file's name, the likeliest first."""
    return hub.cached(file.url or "", any_commit=file.sha256 is not None)


def exists(path: Path) -> bool:
    """Whether it is a file, of which a folder that must not be looked into tells nothing. Raises SetupError."""
    try:
        return path.is_file()
    except PermissionError:
        return False
    except OSError as error:
        raise SetupError(f"cannot look for {path} ({error.strerror}): set EVSAM_HOME to another folder") from error


def glance(file: WeightsFile, path: Path) -> str | None:
    """What keeps `path` from being `file`, completing "it ...", as far as can be seen without reading it whole."""
    size = path.stat().st_size
    if came := kinds.what_came(path, None if file.sha256 else file.about_bytes):
        return came
    if file.bytes not in (None, size):
        return f"has {size} bytes instead of {file.bytes}"
    return None if file.sha256 else kinds.strange(path, file.kind or file.filename)


@contextmanager
def reading(path: Path) -> Iterator[None]:
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
