"""Where the file of a row is asked for: its own address or a mirror's, with which token, and whether at all."""

from __future__ import annotations

import os
from urllib.parse import urlsplit, urlunsplit

from pipelines.errors import UsageError
from pipelines.urls import shown_url
from weights import hub
from weights.manifest import WeightsFile


def is_offline() -> bool:
    """Whether `EVSAM_OFFLINE` forbids the network."""
    return os.environ.get("EVSAM_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def why_offline(file: WeightsFile, offline: bool | None) -> str | None:
    """What forbids to ask for the file, completing "... and ..."; None when nothing does."""
    if offline or (offline is None and is_offline()):
        return "evsam is offline"
    mirrored = os.environ.get("EVSAM_MIRROR")
    return "HF_HUB_OFFLINE is set" if not mirrored and hub.serves(file.url) and hub.is_offline() else None


def address(file: WeightsFile) -> tuple[str, str | None]:
    """Where to download `file`, and the token to send: its URL, or the same path on a mirror, whose user, password and
    query stay. The token is for the Hub, or what the user says is its endpoint."""
    assert file.url is not None
    on_hub = hub.serves(file.url)
    variable = "HF_ENDPOINT" if on_hub and not os.environ.get("EVSAM_MIRROR") else "EVSAM_MIRROR"
    token = hub.token() if variable == "HF_ENDPOINT" else None
    chosen = os.environ.get(variable, "")
    if not chosen:
        return file.url, token
    try:
        mirror, origin = urlsplit(chosen), urlsplit(file.url)
        sound = mirror.scheme in ("http", "https") and mirror.hostname and (mirror.port or True)
    except ValueError:  # of the port, or of an IPv6 address
        sound = False
    if not sound:
        raise UsageError(f"{variable} is {shown_url(chosen)!r}; it must be a URL such as https://mirror.example/hub")
    query = "&".join(filter(None, [origin.query, mirror.query]))
    return urlunsplit((mirror.scheme, mirror.netloc, mirror.path.rstrip("/") + origin.path, query, "")), token


def content(file: WeightsFile) -> str:
    """As in "about 139.0 MB, sha256 c4f9..."."""
    from rich.filesize import decimal

    size = f"{file.bytes:,} bytes" if file.bytes else f"about {decimal(file.about_bytes or 0)}"
    return f"{size}, sha256 {file.sha256}" if file.sha256 else size
