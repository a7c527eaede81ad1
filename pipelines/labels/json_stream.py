"""JSON files whose lists are longer than memory: an entry at a time, each with its place in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.decoder import JSONDecodeError
from typing import Any, BinaryIO, NamedTuple

from pipelines.errors import DataError

_CHUNK = 2**20
_BLANKS = re.compile(r"[ \t\n\r]*")
_DECODE = json.JSONDecoder().raw_decode
_NEAR = 16
"""Characters before the end of what has been read, in which an error may be that of a value not read to its end."""


class Entry(NamedTuple):
    """Of a list, or of a file that is one: key is the list's, None of the file's; value: one of its values. Of any
    other field: its key and value; of a list that starts: its key, and no value.

    start, stop: the bytes of the value.
    """

    key: str | None
    value: Any
    start: int
    stop: int
    in_list: bool
    starts_list: bool = False


def entries(file: BinaryIO) -> Iterator[Entry]:
    """All that a JSON object or list holds, in order. Raises DataError, UnicodeDecodeError, RecursionError."""
    text = _Text(file)
    opening = text.next()
    if opening == "[":
        yield from _list(text, None)
    elif opening == "{":
        yield from _object(text)
    else:
        raise DataError("it is neither a JSON object nor a JSON list")
    if text.next():
        raise text.wrong("there is more after its end")


def _object(text: _Text) -> Iterator[Entry]:
    if text.peek() == "}":
        text.next()
        return
    while True:
        if text.peek() != '"':
            raise text.wrong("a name in quotes is missing")
        key = str(text.value()[0])
        if text.next() != ":":
            raise text.wrong("a ':' is missing")
        if text.peek() == "[":
            start = text.place
            text.next()
            yield Entry(key, None, start, start, False, True)
            yield from _list(text, key)
        else:
            yield Entry(key, *text.value(), False)
        sign = text.next()
        if sign == "}":
            return
        if sign != ",":
            raise text.wrong("a ',' is missing")


def _list(text: _Text, key: str | None) -> Iterator[Entry]:
    if text.peek() == "]":
        text.next()
        return
    while True:
        yield Entry(key, *text.value(), True)
        sign = text.next()
        if sign == "]":
            return
        if sign != ",":
            raise text.wrong("a ',' is missing")


class _Text:
    """What has been read of a file and not yet used, a character a byte: the signs of JSON are ASCII."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._text, self._at, self._before = "", 0, 0
        self._fill()
        if self._text.startswith("\xef\xbb\xbf"):  # a byte order mark
            self._at = 3

    @property
    def place(self) -> int:
        return self._before + self._at

    def _fill(self) -> bool:
        """Read as much again as is left, a chunk at least."""
        left = self._text[self._at :]
        more = self._file.read(max(_CHUNK, len(left)))
        self._text, self._before, self._at = left + more.decode("latin-1"), self.place, 0
        return bool(more)

    def peek(self) -> str:
        """The next character that is no blank, "" at the end."""
        while True:
            self._at = _BLANKS.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def next(self) -> str:
        found = self.peek()
        self._at += len(found)
        return found

    def value(self) -> tuple[Any, int, int]:
        """The next value, and the places of its first byte and behind its last."""
        self.peek()
        while True:
            try:
                value, end = _DECODE(self._text, self._at)
            except JSONDecodeError as error:
                offset = error.pos - self._at
                unfinished = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _NEAR
                if unfinished and self._fill():
                    continue
                raise self.wrong(error.msg, offset) from error
            length = end - self._at
            if end < len(self._text) or not self._fill():
                break  # else a number may go on
        start, raw = self.place, self._text[self._at : self._at + length]
        self._at += length
        if not raw.isascii():
            value = json.loads(raw.encode("latin-1").decode("utf-8"))
        return value, start, self.place

    def wrong(self, what: str, offset: int = 0) -> DataError:
        return DataError(f"it is not JSON: {what} (byte {self.place + offset})")
