"""One file over HTTP: resumed after a cut, checked for size and content, then put in place in one step.

The bytes gather in `<file>.part`; `<file>.part.json` beside it says which file they belong to, by the
server's validator: a strong ETag, else Last-Modified (RFC 9110, sections 13.1.5 and 14.2). A server whose
file has changed answers with the whole new one, and the download starts over.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

import requests

from pipelines.errors import WeightsError
from weights import digest

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes of the whole file."""

TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two pieces of the answer
ATTEMPTS = 4  # in a row that each brought less than HEADWAY
BACKOFF = 0.5  # seconds before the second attempt, doubled from there
HEADWAY = 1 << 20
CHUNK = 1 << 14  # a cut loses what has come of the last chunk

_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class _CutError(Exception):
    """The answer broke off or cannot be joined to what is here; another attempt may do better."""


_PASSING = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    _CutError,
)  # faults of the line rather than of the file


@dataclass(frozen=True)
class Source:
    """Where a file is, and what it must be: its size in bytes and its sha256, where they are known."""

    url: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _Offer:
    """What a server says of its file: its size in bytes, its sha256 if it tells, and its validator."""

    total: int
    sha256: str | None
    validator: str | None


class _Part:
    """The bytes received so far, and the offer they belong to."""

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(f"{destination.name}.part")
        self._note = destination.with_name(f"{destination.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def offer(self) -> _Offer | None:
        """The offer to go on with; None when there is nothing that can be resumed."""
        try:
            offer = _Offer(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return offer if offer.validator and 0 < self.size <= offer.total else None

    def begin(self, offer: _Offer) -> None:
        self.discard()
        self._note.write_text(json.dumps(asdict(offer)), encoding="utf-8")

    def discard(self) -> None:
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self, destination: Path) -> None:
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(destination)
        self._note.unlink(missing_ok=True)


def download(source: Source, destination: Path, progress: Progress | None = None) -> str:
    """Download `source` to `destination` and return its sha256; `destination` never holds part of a file.

    Where the source does not say what the file must be, it must be what the server says. Redirects lead to
    http and https only. Only one process at a time may work on a destination. Raises WeightsError when the
    file cannot be had (what has arrived is kept, and resumed by the next call) or is not the right one, and
    OSError when it cannot be written.
    """
    part = _Part(destination)
    for _ in range(2):  # bytes kept from an earlier call may be at fault: the second time starts from nothing
        actual, expected = _fill(part, source, progress)
        if actual == expected:
            part.finish(destination)
            return actual
        part.discard()
    raise WeightsError(f"{source.url} is damaged or another file: its sha256 is {actual}, expected {expected}")


def _fill(part: _Part, source: Source, progress: Progress | None) -> tuple[str, str]:
    """Complete `part` in as many requests as it takes. Returns the sha256 it has and that it should have."""
    failures = 0
    with requests.Session() as session:
        while True:
            before = part.size
            try:
                offer = part.offer()
                if offer is None or part.size < offer.total:
                    offer = _receive(part, session, source, progress)
                actual = digest.sha256(part.path)
                return actual, source.sha256 or offer.sha256 or actual
            except _PASSING as error:
                failures = 1 if part.size - before >= HEADWAY else failures + 1
                if failures >= ATTEMPTS:
                    raise WeightsError(_gave_up(source.url, part, error)) from error
                time.sleep(BACKOFF * 2 ** (failures - 1))
            except requests.RequestException as error:
                raise WeightsError(f"cannot download {source.url}: {_one_line(error)}") from error


def _receive(part: _Part, session: requests.Session, source: Source, progress: Progress | None) -> _Offer:
    """One request, from where `part` ends."""
    headers = {"User-Agent": "evsam", "Accept-Encoding": "identity"}
    held = part.offer()
    if held is not None:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": held.validator or ""}
    with session.get(source.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()
        _refuse(source.url, response)
        offer = _read_offer(source, response)
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            part.begin(offer)
        elif held is not None and _continues(response, offer, held, part.size):
            offer = held
        else:
            part.discard()
            raise _CutError("the server sent another piece than the one asked for")
        _store(part, response, offer.total, progress)
    if part.size < offer.total:
        raise _CutError("the connection was cut")
    if part.size > offer.total:
        part.discard()
        raise WeightsError(f"{source.url} is another file: more than the {offer.total} bytes that were promised")
    return offer


def _store(part: _Part, response: requests.Response, total: int, progress: Progress | None) -> None:
    """Append the answer's body to `part`, stopping when it is longer than it can be."""
    done = part.size
    if total - done > shutil.disk_usage(part.path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with part.path.open("ab") as file:
        for chunk in chain([b""], response.iter_content(CHUNK)):
            file.write(chunk)
            done += len(chunk)
            if done > total:
                return
            if progress is not None:
                progress(done, total)


def _refuse(url: str, response: requests.Response) -> None:
    """Raise for every answer that does not carry the file."""
    status = response.status_code
    if status >= 500 or status in _BUSY or status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise _CutError(f"the server answered {status} {response.reason}")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise WeightsError(f"cannot download {url}: the server answered {status} {response.reason}")
    kind = response.headers.get("Content-Type", "").lower()
    if kind.startswith("text/html") or response.headers.get("Content-Encoding", "identity") != "identity":
        raise WeightsError(f"{url} gives a web page or a compressed stream, not the file: is a log-in page in between?")


def _read_offer(source: Source, response: requests.Response) -> _Offer:
    """What the answer and the redirects before it say of the file, held against what must be.

    A Hugging Face hub tells size and sha256 of a large file, on its redirect, in X-Linked-Size and -Etag.
    """
    hops = [*response.history, response]
    linked_etag = next((hop.headers["X-Linked-Etag"] for hop in hops if "X-Linked-Etag" in hop.headers), "")
    linked_size = next((hop.headers["X-Linked-Size"] for hop in hops if "X-Linked-Size" in hop.headers), "")
    etag = response.headers.get("ETag", "")

    length = response.headers.get("Content-Length", "")
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    sizes = {int(text) for text in (linked_size, length) if text.isdecimal()}
    if source.size is not None:
        sizes.add(source.size)
    if not sizes:
        raise WeightsError(f"cannot download {source.url}: the server does not say how large the file is")
    if len(sizes) > 1:
        told = " and ".join(map(str, sorted(sizes)))
        raise WeightsError(f"{source.url} is another file: its size is told to be {told} bytes")

    linked = _as_sha256(linked_etag)
    if linked and source.sha256 and linked != source.sha256:
        raise WeightsError(f"{source.url} is another file: its sha256 is {linked}, expected {source.sha256}")
    validator = None if etag.startswith("W/") else etag or response.headers.get("Last-Modified")
    return _Offer(sizes.pop(), linked or _as_sha256(etag), validator)


def _as_sha256(etag: str) -> str | None:
    match = re.fullmatch(r'"?([0-9a-f]{64})"?', etag.lower())
    return match[1] if match else None


def _continues(response: requests.Response, offer: _Offer, held: _Offer, size: int) -> bool:
    """Whether a 206 answer carries on where the `size` bytes of the held offer end."""
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    same = offer.total == held.total and offer.validator in (None, held.validator)
    return same and start is not None and int(start[1]) == size


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (requests.exceptions.ProxyError, "the proxy did not connect"),
    (requests.exceptions.SSLError, "the server's certificate was not accepted"),
    (requests.exceptions.ConnectTimeout, "the server did not answer in time"),
    (requests.exceptions.ChunkedEncodingError, "the connection was cut"),
)


def _gave_up(url: str, part: _Part, error: Exception) -> str:
    """The line for a download that failed too often."""
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), None)
    if reason is None and isinstance(error, requests.ConnectionError):
        looked_up = "NameResolutionError" in repr(error)
        reason = f"the host {urlsplit(url).hostname} is unknown" if looked_up else "no connection"
    kept = f"; {part.size} bytes are kept, run the command again to go on" if part.offer() else ""
    return f"cannot download {url}: {reason or _one_line(error)}{kept}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
