"""The one door to weights: a name becomes a file, from the package, the user's cache or the network.

The cache is `EVSAM_HOME`, else the user's cache folder. A file lies at `<cache>/weights/<name>/<file>`, so
that all files of one name share a folder. `EVSAM_OFFLINE`, unless empty, 0, false, no or off, forbids the
network. `EVSAM_MIRROR` is a base URL put in the place of scheme and host: with `http://box:8000/hub`, the
file `https://huggingface.co/a/b/resolve/main/c.pt` is asked for at
`http://box:8000/hub/a/b/resolve/main/c.pt`. What the Hugging Face Hub's own programs have fetched is used from their
cache, by a link; `weights.hub` says which of their variables are honoured.

A file whose sha256 the manifest does not know must be of its kind and about as large as announced. It is locked to the
sha256 it first had, by `<file>.lock.json` beside it, and must keep it, also when it is deleted and fetched again; to
accept another, fetch it with `force`, or import the other.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipelines.errors import UsageError, WeightsError
from weights import advice, digest, origins, places
from weights.manifest import WeightsFile, files, names, rows
from weights.origins import is_offline
from weights.places import alone, home

if TYPE_CHECKING:
    from weights.download import Progress

__all__ = [
    "State",
    "Verified",
    "alone",
    "beside",
    "fetch",
    "fetch_beside",
    "home",
    "import_file",
    "is_offline",
    "locate",
    "names",
    "rows",
    "state",
    "verify",
]

LOG = logging.getLogger("evsam")
"""What the user of a command, or of Python, has to know before a download."""
State = Literal["bundled", "cached", "shared", "unverified", "damaged", "missing"]
"""cached: as published when last looked at, and not touched since; unverified: nothing says so; shared: in the cache of
the Hugging Face Hub's programs, and checked when it is first used."""


@dataclass(frozen=True)
class Verified:
    """A file that was read whole. against: where its sha256 was on record; None for nowhere.

    Against a lock, all that is known is that it has not changed since it came.
    """

    path: Path
    sha256: str
    against: Literal["manifest", "lock"] | None


def locate(name: str) -> Path | None:
    """Where the file to load for `name` is if all its files are here, else None. Reads no file whole, asks nobody."""
    paths = [places.here(file) for file in files(name)]
    return paths[0] if all(paths) else None


def state(name: str) -> State:
    """Where the files of `name` are and what is known of them, without reading them whole."""
    if locate(name) is None:
        return "missing"
    states = {_state(file) for file in files(name)}
    return next(state for state in ("damaged", "unverified", "shared", "cached", "bundled") if state in states)


def fetch(name: str, *, offline: bool | None = None, force: bool = False, progress: Progress | None = None) -> Path:
    """The file to load for `name`: bundled, cached, or downloaded now. Its other files lie beside it.

    offline: True forbids the network, False allows it, None asks the environment. force: download anew what is here,
    too, and accept another than the one that is locked; what is here stays until then. progress: see
    `weights.download.Progress`. Raises WeightsError when a file is missing, damaged or cannot be had, SetupError when
    the cache cannot be written, and UnknownNameError.
    """
    paths = [_fetch(file, origins.why_offline(file, offline), force, progress) for file in files(name)]
    return paths[0]


def fetch_beside(name: str, *, offline: bool | None = None) -> Path:
    """The folder of what lies beside the file to load for `name`, such as a vocabulary: small, and fetched without that
    file. Raises as `fetch` does.
    """
    load, *beside = files(name)
    for file in beside:
        _fetch(file, origins.why_offline(file, offline), force=False, progress=None)
    return places.path_of(load).parent


def beside(name: str, *, offline: bool | None = None) -> list[Path]:
    """The other files of `name`, which lie beside the one that `fetch` gives. Raises as it does."""
    return [_fetch(file, origins.why_offline(file, offline), False, None) for file in files(name)[1:]]


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
    destination = places.path_of(file)
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
            if fault := _fault(file, copy, actual, file.sha256):
                raise WeightsError(f"{path} is damaged or not the {file.filename} of {file.name}: it {fault}")
            copy.replace(destination)
        finally:
            copy.unlink(missing_ok=True)
        digest.write_lock(destination, actual)
    return destination


def _state(file: WeightsFile) -> State:
    path = places.path_of(file)
    if not places.exists(path):
        return "shared"
    lock = digest.read_lock(path)
    try:
        stat = path.stat()
        if places.glance(file, path):
            return "damaged"
    except OSError:
        return "unverified"
    if file.bundled:
        return "bundled"
    unchanged = lock is not None and (lock.bytes, lock.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    if lock is None or not unchanged or file.sha256 is None:
        return "unverified"
    if lock.sha256 != file.sha256:
        return "damaged"
    return "shared" if path.is_symlink() else "cached"


def _fetch(file: WeightsFile, offline: str | None, force: bool, progress: Progress | None) -> Path:
    """offline: what forbids the network, None for nothing."""
    path = places.path_of(file)
    if file.bundled:
        if not places.exists(path):
            raise advice.missing(file)
    elif force or not (places.exists(path) or _take_shared(file, path)):
        if offline:
            here = places.exists(path)
            raise advice.not_renewed(file, offline) if here else advice.missing(file, f" and {offline}")
        _download(file, path, force, progress)
    else:
        with places.reading(path):
            actual = _check(file, path, digest.fingerprint(path))
        with suppress(OSError):  # a cache shared read-only
            digest.write_lock(path, actual)
    return path


def _take_shared(file: WeightsFile, path: Path) -> bool:
    """Put a link to the file in the Hub's cache at `path`, or a copy where that cannot be; whether there is one.

    Where files are there and none is the right one, says so of the likeliest.
    """
    faults: dict[Path, str] = {}
    for shared in places.in_hub(file):
        try:
            seen = places.glance(file, shared)
            actual = "" if seen else digest.sha256(shared)
            if fault := seen or _fault(file, shared, actual, _expected(file)[0]):
                faults[shared] = f"it {fault}"
                continue
            with alone(path.parent):
                path.unlink(missing_ok=True)  # a link to what has gone
                try:
                    path.symlink_to(shared)
                except OSError:
                    _put_copy(shared, path)
                digest.write_lock(path, actual)
            return True
        except OSError as error:
            faults[shared] = error.strerror or str(error)
    for shared, fault in list(faults.items())[:1]:
        LOG.warning("note: %s of the Hugging Face cache is not used: %s", shared, fault)
    return False


def _put_copy(source: Path, path: Path) -> None:
    copy = path.with_name(f"{path.name}.import")
    try:
        shutil.copyfile(source, copy)
        copy.replace(path)
    finally:
        copy.unlink(missing_ok=True)


def _download(file: WeightsFile, path: Path, force: bool, progress: Progress | None) -> None:
    from weights.answers import Source
    from weights.download import download

    with alone(path.parent):
        if force or not places.exists(path):  # else another process has brought it meanwhile
            expected, against = (file.sha256, "manifest") if force else _expected(file)
            otherwise = f", which it had before: `{advice.renewal(file)}` accepts another" if against == "lock" else ""
            url, token = origins.address(file)
            if file.terms:
                LOG.warning("%s comes under %s: %s (%s)", file.name, file.licence, file.terms, file.source)
            source = Source(url, file.bytes, expected, file.about_bytes, otherwise, token)
            try:
                digest.write_lock(path, download(source, path, progress, partial(_fault, file)))
            except WeightsError as error:
                raise WeightsError(f"{error}. Without that server, {advice.recipe(file)}") from error


def _verify(file: WeightsFile) -> Verified:
    path = places.here(file)
    if path is None:
        raise advice.missing(file)
    with places.reading(path):
        actual, against = _check(file, path, digest.sha256(path)), _expected(file)[1]
    if path == places.path_of(file) and not file.bundled and against == "manifest":
        with suppress(OSError):  # a cache shared read-only
            digest.write_lock(path, actual)
    return Verified(path, actual, against)


def _expected(file: WeightsFile) -> tuple[str | None, Literal["manifest", "lock"] | None]:
    """The sha256 that `file` must have, and who says so."""
    if file.sha256:
        return file.sha256, "manifest"
    lock = digest.read_lock(places.path_of(file))
    return (lock.sha256, "lock") if lock else (None, None)


def _fault(file: WeightsFile, path: Path, actual: str, expected: str | None) -> str | None:
    """What keeps `path`, whose sha256 is `actual`, from being `file`, completing "it ..."; None when nothing does."""
    if seen := places.glance(file, path):
        return seen
    return None if expected in (None, actual) else f"has the sha256 {actual} instead of {expected}"


def _check(file: WeightsFile, path: Path, actual: str) -> str:
    """Return `actual`, the sha256 of `path`, if it is right for `file`; else raise WeightsError."""
    fault = _fault(file, path, actual, _expected(file)[0])
    if fault is None:
        return actual
    remedy = "install evsam again" if file.bundled else f"`{advice.renewal(file)}` fetches it anew"
    raise WeightsError(f"{path} is damaged or another file: it {fault}; {remedy}")


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
