"""URLs as they may be told to others."""

from __future__ import annotations

import re

_HOST = re.compile(r"(\[[0-9a-f:.]*\]|[^][:]*)(:[0-9]*)?", re.IGNORECASE)


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
