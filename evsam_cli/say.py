"""All that evsam prints, and the only module that prints: whatever a name holds, it stays on its line and rules no
terminal.

Results go to standard output, all else to standard error. See also `evsam_cli.streams`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

from pipelines.files import nulls, to_json
from pipelines.printable import printable, printable_lines

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TextColumn
    from rich.table import Table
    from rich.text import Text

PAGE = 120
"""Characters across, where a terminal is not wider."""
Cell = str | tuple[str, str]
"""Of a table: text, or text and Rich's style of it."""
_bars: list[Progress] = []
"""Those that are on the terminal now."""


def result(text: object) -> None:
    """A line of what was asked for."""
    _print(sys.stdout, printable(str(text)) + "\n")


def results(text: str) -> None:
    """Text of several lines that was asked for, and that has its last line end."""
    _print(sys.stdout, printable_lines(text))


def document(content: Any, indent: int | None = None) -> None:
    """JSON, in ASCII; figures without a value are null."""
    _print(sys.stdout, to_json(nulls(content), ascii_only=True, indent=indent) + "\n")


def aside(text: object) -> None:
    """A line of what is to be known beside; over a bar that goes on, where there is one."""
    if _bars:
        _bars[-1].console.print(printable(str(text)), markup=False, highlight=False, soft_wrap=True)
    else:
        _print(sys.stderr, printable(str(text)) + "\n")


class _Asides(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        aside(record.getMessage())


def asides_of(name: str) -> None:
    """Say what the logger of this name is told, and nobody else."""
    log = logging.getLogger(name)
    log.handlers, log.propagate = [_Asides()], False


def traceback() -> None:
    """Of the exception that is being handled."""
    from traceback import format_exc

    _print(sys.stderr, printable_lines(format_exc()))


def table(
    rows: Iterable[Sequence[Cell]], *, header: Sequence[str] = (), names: int = sys.maxsize, wide: bool = False
) -> None:
    """A table that was asked for. names: columns at the left that hold no numbers; wide: no cell is wrapped, and what
    is wider than a page becomes several tables, each with the names."""
    from rich.console import Console

    console = Console(width=max(Console().width, PAGE)) if wide else Console()
    lines = list(rows)
    columns = range(len(header or (lines or [()])[0]))
    for page in _pages([header, *lines], names, console.width) if wide else [columns]:
        console.print(_table([[line[i] for i in page] for line in lines], [header[i] for i in page if header], names))


def styled(drawn: Callable[[int], Iterable[Cell]]) -> None:
    """Text that was asked for, of pieces with their own line ends. drawn: what is shown at a width of characters."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    console.print(Text.assemble(*drawn(console.width)), soft_wrap=True, end="")


def _pages(lines: Sequence[Sequence[Cell]], names: int, width: int) -> list[list[int]]:
    """The columns of each table: the names, and as many of the others as fit beside them."""
    widths = [max(len(_text(cell)) for cell in column) + 2 for column in zip(*filter(None, lines), strict=True)]
    first = list(range(min(names, len(widths))))
    pages = [list(first)]
    for column in range(len(first), len(widths)):
        if len(pages[-1]) > len(first) and sum(widths[i] for i in [*pages[-1], column]) > width:
            pages.append(list(first))
        pages[-1].append(column)
    return pages


def _table(rows: Iterable[Sequence[Cell]], header: Sequence[str], names: int) -> Table:
    from rich.table import Table

    shown = Table(show_header=bool(header), box=None, pad_edge=not header)
    for title in header:
        shown.add_column(_text(title))
    for row in rows:
        shown.add_row(*map(_text, row))
    for place, column in enumerate(shown.columns):
        column.no_wrap = place == 0
        column.justify = "left" if place < names else "right"
    return shown


def progress(*columns: ProgressColumn, per_second: float = 10) -> Progress:
    """A bar on the terminal."""
    from rich.console import Console
    from rich.progress import Progress

    class Bar(Progress):
        def start(self) -> None:
            super().start()
            _bars.append(self)

        def stop(self) -> None:
            super().stop()
            if self in _bars:
                _bars.remove(self)

    return Bar(
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
