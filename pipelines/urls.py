"""Which locations are URLs, and how they may be told to others."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9a-f:.]*\]|[^][:]*)(:[0-9]*)?", re.IGNORECASE)


def is_url(location: str) -> bool:
    """Whether a location is fetched over http or https; every other one is a path."""
    return location.lower().startswith(("http://", "https://"))


def has_scheme(location: str) -> bool:
    """Whether a location begins like a URL of any kind."""
    return _SCHEME.match(location) is not None


def shown_url(url: str) -> str:
    """A URL without what may be secret: user, password, query and fragment. For messages and for files that are kept.

    Of one whose host cannot be told, only the scheme is shown.
    """
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = place.partition("/")
    host = authority.rpartition("@")[2]
    if mark and not _HOST.fullmatch(host):  # as after a password with a slash in it
        return f"{scheme}{mark}..."
    return f"{scheme}{mark}{host}{slash}{path}"


def shown_location(location: str) -> str:
    """A location as others may read it: a URL without what may be secret, any other one as it is."""
    return shown_url(location) if has_scheme(location) else location
