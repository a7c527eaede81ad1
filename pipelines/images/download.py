"""Bytes over HTTP: whole, or an ImageError that says why not; bounded in size and in time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from io import BytesIO
from typing import BinaryIO

from pipelines.errors import ImageError
from pipelines.images.reasons import one_line

MAX_DOWNLOAD_BYTES = 256 * 2**20
MAX_DOWNLOAD_SECONDS = 120.0


def downloaded(url: str, timeout: float) -> BinaryIO:
    """In a thread of its own, which is left behind in the end: `timeout` never ends what comes byte by byte."""
    answer = Future[BinaryIO]()
    threading.Thread(target=_fetch, args=(answer, url, timeout), daemon=True).start()
    try:
        return answer.result(MAX_DOWNLOAD_SECONDS)
    except TimeoutError:
        raise _too_slow() from None


def _fetch(answer: Future[BinaryIO], url: str, timeout: float) -> None:
    try:
        answer.set_result(_body(url, timeout))
    except BaseException as error:
        answer.set_exception(error)


def _body(url: str, timeout: float) -> BinaryIO:
    import requests

    body = BytesIO()
    end = time.monotonic() + MAX_DOWNLOAD_SECONDS
    try:
        with requests.get(url, stream=True, timeout=timeout) as response:
            if response.status_code != 200:
                answer = f"{response.status_code} {response.reason or ''}"
                raise ImageError(f"the server answered HTTP {one_line(answer)}")
            for block in response.iter_content(2**13):
                body.write(block)
                if time.monotonic() > end:  # nobody waits any longer
                    raise _too_slow()
                if body.tell() > MAX_DOWNLOAD_BYTES:
                    raise ImageError(f"the download is larger than {MAX_DOWNLOAD_BYTES:,} bytes")
    except ImageError:
        raise
    except Exception as error:  # requests lets some of urllib3's, http.client's and the codecs' own errors through
        if isinstance(error, requests.Timeout) or "timed out" in str(error):
            reason = f"the server did not answer within {timeout:g} s"
        elif isinstance(error, requests.exceptions.ChunkedEncodingError):
            reason = "the server cut the download short"
        elif isinstance(error, requests.exceptions.SSLError):
            reason = "the server's certificate is not trusted, or TLS failed"
        elif isinstance(error, requests.ConnectionError):
            reason = "the server cannot be reached, or closed the connection"
        elif isinstance(error, ValueError):  # whose text may be of the URL, and so hold a password
            reason = "the URL cannot be downloaded: it, or one that it leads to, is none of http or https, or not whole"
        else:
            reason = f"the URL cannot be downloaded: {one_line(error)}"
        raise ImageError(reason) from error
    if not body.tell():
        raise ImageError("the server sent an empty file (0 bytes)")
    body.seek(0)
    return body


def _too_slow() -> ImageError:
    return ImageError(f"the download takes longer than {MAX_DOWNLOAD_SECONDS:g} s")
