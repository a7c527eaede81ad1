"""The standard streams of the process, so that nobody can spoil them, and they spoil nobody's work.

Libraries print, too, and quote names from strangers' files: what they write is escaped. A standard output that cannot
be written ends the command in one line; standard error that cannot be, or a stream that is closed, changes nothing.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from pipelines.errors import SetupError
from pipelines.printable import printable_lines


@contextmanager
def kept_safe() -> Iterator[None]:
    """Do so in this block."""
    _open_missing()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = shown = Shown(before[0], needed=True), Shown(before[1], needed=False)
    try:
        yield
    finally:
        for stream in shown:
            with suppress(SetupError, OSError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _open_missing() -> None:
    """Take the numbers of streams that are closed: the next file that is opened would get them, and what is printed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


class Drawn(io.TextIOBase):
    """A stream as it is. After its first fault, and where there is none, what is written is dropped."""

    def __init__(self, stream: TextIO | None, *, needed: bool) -> None:
        """needed: whether it ends the command when it cannot be written."""
        self._stream = stream
        self._needed = needed
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> Any:
        return self._stream.buffer if self._stream is not None else io.BytesIO()

    def fileno(self) -> int:
        return super().fileno() if self._stream is None else self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._faults():
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._faults():
            if self._stream is not None:
                self._stream.flush()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), self.fileno())  # also for what the stream holds back
            if not self._needed:
                return
            if isinstance(error, BrokenPipeError):
                raise
            raise SetupError(f"standard output cannot be written: {error.strerror}") from error


class Shown(Drawn):
    """What anybody prints, with what is not printable escaped; line ends stay."""

    def __init__(self, stream: TextIO | None, *, needed: bool) -> None:
        super().__init__(stream, needed=needed)
        self.rich_proxied_file = Drawn(stream, needed=needed)
        """Where Rich, which is given text that is printable and draws with control characters, writes instead."""

    def write(self, text: str) -> int:
        super().write(printable_lines(text))
        return len(text)
