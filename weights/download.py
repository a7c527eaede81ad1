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
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from time import sleep
from urllib.parse import urlsplit

import requests
import urllib3

from pipelines.errors import DataError, WeightsError
from pipelines.files import read_json
from weights import digest
from weights.answers import CutError, Offer, SlowError, Source, ask, body, continues, read_offer, refuse

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes of the whole file, None where the server does not tell."""
Fault = Callable[[Path, str, str], str | None]
"""(file, its sha256, the sha256 it should have) -> what keeps it from being the right one, completing "it ..."."""

ATTEMPTS = 4  # in a row that each brought less than HEADWAY
BACKOFF = 0.5  # seconds before the second attempt, doubled from there
HEADWAY = 1 << 20

_PASSING = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
    CutError,
)  # faults of the line rather than of the file


class _Part:
    """The bytes received so far, and the offer they belong to."""

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(f"{destination.name}.part")
        self._note = destination.with_name(f"{destination.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def offer(self) -> Offer | None:
        """The offer to go on with; None when there is nothing that can be resumed."""
        try:
            offer = Offer(**read_json(self._note, "a note of a download"))
        except (DataError, TypeError):
            return None
        told = isinstance(offer.validator, str) and re.fullmatch("[ -~]+", offer.validator)
        sound = told and type(offer.total) is int and isinstance(offer.sha256, str | None)
        return offer if sound and 0 < self.size <= (offer.total or 0) else None

    def begin(self, offer: Offer) -> None:
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


def differs(_: Path, actual: str, expected: str) -> str | None:
    """The fault of a file whose sha256 alone matters."""
    return None if actual == expected else f"has the sha256 {actual} instead of {expected}"


def download(source: Source, destination: Path, progress: Progress | None = None, fault: Fault = differs) -> str:
    """Download `source` to `destination` and return its sha256; `destination` never holds part of a file.

    fault: looks at the whole file before it is put in place. Where the source does not say what the file must be, it
    must be what the server says. Redirects lead to http and https only. Only one process at a time may work on a
    destination. Raises WeightsError when the file cannot be had (what has arrived is kept, and resumed by the next
    call) or is not the right one, and OSError when it cannot be written.
    """
    part = _Part(destination)
    for _ in range(2):  # bytes kept from an earlier call may be at fault: the second time starts from nothing
        actual, expected = _fill(part, source, progress)
        wrong = fault(part.path, actual, expected)
        if wrong is None:
            part.finish(destination)
            return actual
        part.discard()
    raise source.another(f"it {wrong}")


def _fill(part: _Part, source: Source, progress: Progress | None) -> tuple[str, str]:
    """Complete `part` in as many requests as it takes. Returns the sha256 it has and that it should have."""
    failures = 0
    with requests.Session() as session:
        while True:
            before = part.size
            try:
                offer = part.offer()
                if offer is None or part.size < (offer.total or 0):
                    offer = _receive(part, session, source, progress)
                actual = digest.sha256(part.path)
                return actual, source.sha256 or offer.sha256 or actual
            except SlowError as error:
                raise WeightsError(_gave_up(source, part, error)) from error
            except _PASSING as error:
                failures = 1 if part.size - before >= HEADWAY else failures + 1
                if failures >= ATTEMPTS:
                    raise WeightsError(_gave_up(source, part, error)) from error
                sleep(BACKOFF * 2 ** (failures - 1))
            except requests.RequestException as error:
                raise WeightsError(_gave_up(source, part, error)) from error


def _receive(part: _Part, session: requests.Session, source: Source, progress: Progress | None) -> Offer:
    """One request, from where `part` ends."""
    headers = {"User-Agent": "evsam", "Accept-Encoding": "identity"}
    if source.token:
        headers["Authorization"] = f"Bearer {source.token}"  # which requests drops where another host comes next
    held = part.offer()
    if held is not None:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": held.validator or ""}
    with ask(session, source.url, headers) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()
        refuse(source, response)
        offer = read_offer(source, response)
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            part.begin(offer)
        elif held is not None and continues(response, offer, held, part.size):
            offer = held
        else:
            part.discard()
            raise CutError("the server sent another piece than the one asked for")
        _store(part, response, offer.total, source.most, progress)
    if offer.total is not None and part.size < offer.total:
        raise CutError("the connection was cut")
    if part.size > (source.most if offer.total is None else offer.total):
        part.discard()
        raise source.another(f"it has more than the {offer.total or source.most} bytes that were promised")
    return offer


def _store(part: _Part, response: requests.Response, total: int | None, most: float, progress: Progress | None) -> None:
    """Append the answer's body to `part`, stopping when it is longer than it can be."""
    done = part.size
    if total is not None and total - done > shutil.disk_usage(part.path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with part.path.open("ab") as file:
        if progress is not None:
            progress(done, total)
        for chunk in body(response):
            file.write(chunk)
            done += len(chunk)
            if done > (most if total is None else total):
                return
            if progress is not None:
                progress(done, total)


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (requests.exceptions.ProxyError, "the proxy did not connect"),
    (requests.exceptions.SSLError, "the server's certificate was not accepted"),
    (requests.exceptions.ConnectTimeout, "the server did not answer in time"),
    (requests.Timeout, "the server fell silent"),
    (urllib3.exceptions.TimeoutError, "the server fell silent"),
    (requests.exceptions.ChunkedEncodingError, "the connection was cut"),
    (urllib3.exceptions.HTTPError, "the connection was cut"),
    (requests.TooManyRedirects, "it leads through too many redirects"),
    (requests.exceptions.InvalidSchema, "it leads to what is no http or https address"),
    (ValueError, "it leads to an address that cannot be"),
)


def _gave_up(source: Source, part: _Part, error: Exception) -> str:
    """The line for a download that failed for good or too often. What libraries say is not told: it can hold URLs."""
    if isinstance(error, CutError | SlowError):
        reason = str(error)
    else:
        reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "no connection")
    if refusal := re.search(r"Tunnel connection failed: (\d{3})", repr(error)):
        reason = f"the proxy refused, with {refusal[1]}"
    if reason == "no connection" and "NameResolutionError" in repr(error):
        reason = f"the host {urlsplit(source.url).hostname} is unknown"
    kept = f"; {part.size} bytes are kept, run the command again to go on" if part.offer() else ""
    return f"cannot download {source.shown}: {reason}{kept}"
