"""One answer of a server: what it says of its file, and the file's bytes as they come."""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic

import requests

from pipelines.errors import WeightsError
from pipelines.urls import shown_url
from weights.kinds import most_bytes, told

TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two pieces of the answer
PATIENCE = 120.0  # seconds for the head of an answer, however many pieces it comes in
SLOWEST = 1000  # bytes that a second must bring
WINDOW = 60.0  # seconds over which it is looked at
CHUNK = 1 << 14  # a cut loses what has come of the last chunk

_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_ZIPPED = {"gzip", "x-gzip", "deflate"}
"""Codings that a server may use although none was asked for."""


class CutError(Exception):
    """The answer broke off or cannot be joined to what is here; another attempt may do better."""


class SlowError(Exception):
    """The answer comes so slowly that it would never end."""


@dataclass(frozen=True)
class Source:
    """Where a file is, and what it must be: its size in bytes, or about that, and its sha256, where they are known.

    otherwise: what the user can do when it is another one. token: sent to the URL's own host, and to no other one that
    a redirect leads to.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    about: int | None = None
    otherwise: str = ""
    token: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        return shown_url(self.url)

    @property
    def most(self) -> float:
        """Bytes that it has at most, where neither sha256 nor server says."""
        return self.size or (most_bytes(self.about) if self.about else float("inf"))

    def another(self, why: str) -> WeightsError:
        """The error for what is there in its place."""
        return WeightsError(f"{self.shown} is another file: {why}{self.otherwise}")


@dataclass(frozen=True)
class Offer:
    """What a server says of its file: its size in bytes, its sha256 and its validator, each if it tells."""

    total: int | None
    sha256: str | None
    validator: str | None


def ask(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """In a thread of its own, which is left behind in the end: `TIMEOUT` never ends a head that comes byte by byte."""
    answer = Future[requests.Response]()

    def get() -> None:
        try:
            answer.set_result(session.get(url, headers=headers, stream=True, timeout=TIMEOUT))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=get, daemon=True).start()
    try:
        return answer.result(PATIENCE)
    except TimeoutError as error:
        answer.add_done_callback(_close)
        raise SlowError(f"the server has not finished its answer's head in {PATIENCE:g} s") from error


def _close(late: Future[requests.Response]) -> None:
    """What nobody waits for any longer."""
    if late.exception() is None:
        late.result().close()


def body(response: requests.Response) -> Iterator[bytes]:
    """The pieces of the file as they come. Raises SlowError when too little comes, CutError when the end is missing.

    Reads what there is, not what would fill a buffer, as a server may drip.
    """
    unzip = zlib.decompressobj(wbits=47) if _coding(response) in _ZIPPED else None  # of either format
    since, came = monotonic(), 0
    while chunk := response.raw.read1(CHUNK, decode_content=False):
        came += len(chunk)
        if (now := monotonic()) - since >= WINDOW:
            if came < SLOWEST * (now - since):
                raise SlowError(f"the server sends less than {SLOWEST:,} bytes a second")
            since, came = now, 0
        while chunk and unzip is not None:
            try:
                yield unzip.decompress(chunk, CHUNK)
            except zlib.error as error:
                raise CutError("the server's compressed answer is damaged") from error
            chunk = unzip.unconsumed_tail
        if unzip is None:
            yield chunk
    if unzip is not None and (unzip.unused_data or not unzip.eof):
        raise CutError("the server's compressed answer is damaged")


def refuse(source: Source, response: requests.Response) -> None:
    """Raise for every answer that does not carry the file."""
    status = response.status_code
    if status >= 500 or status in _BUSY or status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise CutError(f"the server answered {status} {response.reason}")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise WeightsError(f"cannot download {source.shown}: the server answered {status} {response.reason}")
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise WeightsError(f"{source.shown} gives a web page, not the file: is a log-in page in between?")
    if (coding := _coding(response)) not in {"identity", *_ZIPPED}:
        raise WeightsError(f"{source.shown} comes compressed, as {coding}, which evsam cannot read: try another server")


def _coding(response: requests.Response) -> str:
    return response.headers.get("Content-Encoding", "identity").strip().lower()


def read_offer(source: Source, response: requests.Response) -> Offer:
    """What the answer and the redirects before it say of the file, held against what must be.

    A Hugging Face hub tells size and sha256 of a large file, on its redirect, in X-Linked-Size and -Etag. Length and
    validator of an answer that is compressed are not the file's.
    """
    hops = [*response.history, response]
    linked_etag = next((hop.headers["X-Linked-Etag"] for hop in hops if "X-Linked-Etag" in hop.headers), "")
    linked_size = next((hop.headers["X-Linked-Size"] for hop in hops if "X-Linked-Size" in hop.headers), "")
    plain = _coding(response) not in _ZIPPED
    etag = response.headers.get("ETag", "") if plain else ""

    length = response.headers.get("Content-Length", "")
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    ends = chunked or length.isdecimal()  # whether a cut is seen without knowing the size
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    sizes = {int(text) for text in (linked_size, length if plain else "") if text.isdecimal()}
    if source.size is not None:
        sizes.add(source.size)
    if len(sizes) > 1:
        raise source.another(f"its size is told to be {' and '.join(map(str, sorted(sizes)))} bytes")
    total = sizes.pop() if sizes else None
    if total is None and not (ends or source.sha256):
        raise WeightsError(f"cannot download {source.shown}: the server does not say how large the file is")
    if total is not None and total > source.most and not source.sha256:
        raise source.another(f"it has {told(total, source.about)}")

    linked = _as_sha256(linked_etag)
    if linked and source.sha256 and linked != source.sha256:
        raise source.another(f"its sha256 is {linked} instead of {source.sha256}")
    validator = None if etag.startswith("W/") else etag or (response.headers.get("Last-Modified") if plain else None)
    return Offer(total, linked or _as_sha256(etag), validator)


def _as_sha256(etag: str) -> str | None:
    match = re.fullmatch(r'"?([0-9a-f]{64})"?', etag.lower())
    return match[1] if match else None


def continues(response: requests.Response, offer: Offer, held: Offer, size: int) -> bool:
    """Whether a 206 answer carries on where the `size` bytes of the held offer end."""
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    same = offer.total == held.total and offer.validator in (None, held.validator) and _coding(response) == "identity"
    return same and start is not None and int(start[1]) == size
