"""Text from outside, made fit to be shown: names of files, of classes and keys, and what libraries say of them."""

from __future__ import annotations

from typing import Any

_SHOWN = 60
"""Letters of a value that a message shows."""


def printable(text: str) -> str:
    """`text` on one line that rules no terminal: what is not printable is escaped as Python writes it.

    Those are control characters and line ends, marks that turn the direction of writing or are not seen at all, and the
    bytes of file names that are no text: `\\x1b`, `\\n`, `\\u202e`, `\\udcff`.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def printable_lines(text: str) -> str:
    """The same of a text of several lines, whose line ends and tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def brief(value: Any) -> str:
    """A value of a file from outside as Python writes it, its end left out where it is long."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep; an integer of thousands of digits
        return "a value that is too long to be shown"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
