"""Text from outside, made fit to be shown: names of files, of classes and keys, and what libraries say of them."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` on one line that rules no terminal: what is not printable is escaped as Python writes it.

    Those are control characters and line ends, marks that turn the direction of writing or are not seen at all, and the
    bytes of file names that are no text: `\\x1b`, `\\n`, `\\u202e`, `\\udcff`.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def printable_lines(text: str) -> str:
    """The same of a text of several lines, whose line ends stay."""
    return "\n".join(printable(line.expandtabs()) for line in text.split("\n"))


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
