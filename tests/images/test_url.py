"""The loader on the network: a real server that misbehaves gives a reason in one line, and nothing without bounds."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from support.image_files import RGB, encoded, reason

from pipelines.images import download
from pipelines.images.load import load
from pipelines.images.sources import ImageSource

over = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.strip("/").partition("?")[0]
        body = b"" if name == "empty" else encoded("PNG")
        if name == "slow":
            over.wait()
        if name == "drop":
            return
        if name in ("drip", "drip-header"):
            self.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"\r\n" if name == "drip" else b"X-Slow: "))
            while not over.wait(0.05):
                self.wfile.write(b".")
            return
        status = {"missing": 404, "broken": 500, "moved": 302, "away": 302, "round": 302}.get(name, 200)
        self.send_response(status, "\x1b[31mred alert" if name == "broken" else None)
        if name == "moved":
            self.send_header("Location", "/a.png")
        if name == "away":
            self.send_header("Location", "file:///etc/hostname")
        if name == "round":
            self.send_header("Location", "/round")
        self.send_header("Content-Length", str(len(body) + (500 if name in ("cut", "stall") else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if name == "stall":
            over.wait()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("path", ["a.png", "a.png?size=large", "moved"])
def test_a_url_is_loaded(path: str, server: str) -> None:
    assert np.array_equal(load(ImageSource("a", f"{server}/{path}")).pixels, RGB)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing", "HTTP 404"),
        ("broken", "HTTP 500 [31mred alert"),
        ("empty", "0 bytes"),
        ("cut", "cut the download short"),
        ("drop", "closed the connection"),
        ("away", "cannot be downloaded"),
        ("round", "cannot be downloaded"),
    ],
)
def test_what_a_server_does_wrong_is_named(path: str, words: str, server: str) -> None:
    assert words in reason(f"{server}/{path}")


@pytest.mark.parametrize("path", ["slow", "stall"])
def test_a_server_that_falls_silent_is_left(path: str, server: str) -> None:
    assert reason(f"{server}/{path}", timeout=0.3) == "the server did not answer within 0.3 s"


def test_a_download_is_bounded(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 1000)
    assert "larger than 1,000 bytes" in reason(f"{server}/a.png")


@pytest.mark.parametrize("path", ["drip", "drip-header"])
def test_a_download_ends_in_time(path: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_DOWNLOAD_SECONDS", 0.3)
    assert reason(f"{server}/{path}") == "the download takes longer than 0.3 s"


def test_nobody_answers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be reached" in reason(f"http://127.0.0.1:{port}/a.png")


@pytest.mark.parametrize("url", ["http://", "http:///a.jpg", "http://[::1", "http://.bad/a.jpg", "https://a:b/c.jpg"])
def test_urls_that_are_none(url: str) -> None:
    assert reason(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:hun/ter2@host/a.jpg",
        "http://ann:hun#ter2@host/a",
        "http://ann:hunter2@/a",
        "http://hunter2@[::1/a",
        "http://hunter2:x@.bad/a.jpg?hunter2",
        "http://host:hunter2/a.jpg",
    ],
)
def test_urls_that_are_none_do_not_show_what_may_be_secret(url: str) -> None:
    assert "hun" not in reason(url) and "ter2" not in reason(url)
