"""All that evsam prints, and the only module that prints: whatever a name holds, it stays on its line and rules no
terminal.

Results go to standard output, all else to standard error. See also `evsam_cli.streams`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

from pipelines.printable import printable, printable_lines

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TextColumn
    from rich.text import Text

Cell = str | tuple[str, str]
"""Of a table: text, or text and Rich's style of it."""


def result(text: object) -> None:
    """A line of what was asked for."""
    _print(sys.stdout, printable(str(text)) + "\n")


def results(text: str) -> None:
    """Text of several lines that was asked for, and that has its last line end."""
    _print(sys.stdout, printable_lines(text))


def document(content: Any, indent: int | None = None) -> None:
    """JSON, in ASCII."""
    _print(sys.stdout, json.dumps(content, indent=indent) + "\n")


def aside(text: object) -> None:
    """A line of what is to be known beside."""
    _print(sys.stderr, printable(str(text)) + "\n")


def traceback() -> None:
    """Of the exception that is being handled."""
    from traceback import format_exc

    _print(sys.stderr, printable_lines(format_exc()))


def table(
    rows: Iterable[Sequence[Cell]], *, header: Sequence[str] = (), names: int = sys.maxsize, wide: bool = False
) -> None:
    """A table that was asked for. names: columns at the left that hold no numbers; wide: as wide as it is."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shown = Table(show_header=bool(header), box=None, pad_edge=not header)
    for title in header:
        shown.add_column(_text(title))
    for row in rows:
        shown.add_row(*map(_text, row))
    for place, column in enumerate(shown.columns):
        column.no_wrap = place == 0
        column.justify = "left" if place < names else "right"
    if wide:
        needed = console.measure(shown, options=console.options.update(width=1000)).maximum
        console = Console(width=max(console.width, needed))
    console.print(shown)


def progress(*columns: ProgressColumn, per_second: float = 10) -> Progress:
    """A bar on the terminal."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(
        *columns,
        console=Console(stderr=True),
        refresh_per_second=per_second,
        redirect_stdout=False,  # else what others print meanwhile would go past `evsam_cli.streams`
        redirect_stderr=False,
    )


def text_column(template: str) -> TextColumn:
    """A column of a bar, such as "{task.description}"."""
    from rich.progress import TextColumn

    return TextColumn(template, markup=False)


def on_terminal() -> bool:
    """Whether somebody watches standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


def _text(cell: Cell) -> Text:
    from rich.text import Text

    text, style = cell if isinstance(cell, tuple) else (cell, "")
    return Text(printable(text), style)


def _print(stream: IO[str] | None, text: str) -> None:
    if stream is not None:
        stream.write(text)
        stream.flush()
