"""Writing XML as text, so that it can be streamed."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(tag: str, text: object = "", **attributes: object) -> str:
    """`<tag name="value">text</tag>`."""
    said = "".join(f' {name}="{quoted(value)}"' for name, value in attributes.items())
    return f"<{tag}{said}>{quoted(text)}</{tag}>"


def quoted(value: object) -> str:
    """As it can stand in a text or an attribute; characters that XML cannot hold are `?`."""
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    return _FORBIDDEN.sub("?", escape(text, {'"': "&quot;", "\n": "&#10;", "\t": "&#9;", "\r": "&#13;"}))
