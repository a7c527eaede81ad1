"""What is shown of a URL."""

from __future__ import annotations

import pytest

from pipelines.urls import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://box.example/a/b.pt", "https://box.example/a/b.pt"),
        ("https://box.example:8443/a@b/c.pt", "https://box.example:8443/a@b/c.pt"),
        ("http://[::1]:80/c.pt", "http://[::1]:80/c.pt"),
        ("http://ann:secret@box.example/c.pt?token=secret#secret", "http://box.example/c.pt"),
        ("HTTP://secret@box.example", "HTTP://box.example"),
        ("http://ann:secret@secret@box.example/", "http://box.example/"),
        ("http://box.example?secret", "http://box.example"),
        ("http://ann:se/cret@box.example/c.pt", "http://..."),
        ("http://ann:se#cret@box.example/c.pt", "http://..."),
        ("http://ann:se?cret@box.example/c.pt", "http://..."),
        ("ann:secret@box:80", "box:80"),
        ("", ""),
    ],
)
def test_nothing_secret_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown
