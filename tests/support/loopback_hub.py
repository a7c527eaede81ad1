"""A real HTTP server on loopback that serves one file, well or badly, and remembers what it was asked."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal


@dataclass(frozen=True)
class Reply:
    """How one request is answered.

    send: bytes of the body after which the connection is cut. claim: the Content-Length told, -1 for none. ranges:
    "checked" sends a range if If-Range holds, "blind" sends it always, "shifted" sends another one, "no"
    sends the whole file, "refused" answers 416. pause: falls silent in the middle of the "head" or the "body", until
    the hub's `go_on` is set, at the latest when the test is over.
    """

    status: int = 200
    body: bytes | None = None
    etag: str | None = '"first"'
    headers: dict[str, str] = field(default_factory=dict)
    send: int | None = None
    claim: int | None = None
    ranges: str = "checked"
    pause: Literal["head", "body"] | None = None


class Hub:
    """replies: one for each coming request; when they are used up, `usual` answers."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.usual = Reply()
        self.go_on = threading.Event()
        self.replies: deque[Reply] = deque()
        self.requests: list[tuple[str, Message]] = []
        self.url = ""

    def ranges(self) -> list[str | None]:
        return [headers["Range"] for _, headers in self.requests]


class _Server(ThreadingHTTPServer):
    hub: Hub

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        hub = self.server.hub
        hub.requests.append((self.path, self.headers))
        reply = hub.replies.popleft() if hub.replies else hub.usual
        body = hub.body if reply.body is None else reply.body
        status, start = reply.status, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        valid = reply.ranges in ("blind", "shifted") or self.headers["If-Range"] == reply.etag
        if asked and reply.ranges == "refused":
            status, body = 416, b""
        elif asked and valid and reply.ranges != "no" and status == 200:
            status, start = 206, int(asked[1]) - (reply.ranges == "shifted")
        self.send_response(status)
        if reply.pause == "head":
            self.flush_headers()
            hub.go_on.wait()
        if reply.etag:
            self.send_header("ETag", reply.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        body = body[start:]
        if "Transfer-Encoding" not in reply.headers and reply.claim != -1:
            self.send_header("Content-Length", str(len(body) if reply.claim is None else reply.claim))
        self.end_headers()
        cut = reply.send is not None or reply.claim is not None
        half = len(body) // 2
        self.wfile.write(body[: reply.send][:half])
        if reply.pause == "body":
            hub.go_on.wait()
        self.wfile.write(body[half : reply.send])
        self.close_connection = cut

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(body: bytes) -> Iterator[Hub]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.hub = Hub(body)
        server.hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.hub
        finally:
            server.hub.go_on.set()
            server.shutdown()
            thread.join()
