"""What is said when a command cannot go on, and the exit code that it then ends with."""

from __future__ import annotations

import errno
import sys

import typer

from evsam_cli import say
from pipelines.errors import EvsamError
from pipelines.packages import unloadable

_SAYING_NOTHING = 1
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_UsageFault = typer.BadParameter.__base__ or typer.BadParameter
"""What Typer raises for a command line that it cannot read: its own class, or Click's, by version."""


def told(error: Exception) -> int | None:
    """Say in one line what is wrong, and return the exit code; None for a mistake of evsam's own, which is not said."""
    if isinstance(error, BrokenPipeError):  # nobody reads on
        return _SAYING_NOTHING
    if isinstance(error, _UsageFault):
        return _told_usage(error)
    fault = _fault(error)
    if fault is None:
        return None
    say.aside(f"evsam: {fault}")
    return error.exit_code if isinstance(error, EvsamError) else EvsamError.exit_code


def _fault(error: Exception) -> str | None:
    if isinstance(error, EvsamError):
        return str(error)
    if package := unloadable(error):
        return package
    if isinstance(error, OSError):
        return _disk_fault(error)
    if isinstance(error, MemoryError) or _out_of_memory(error):
        return "memory ran out: close other programs, or ask for less at once"
    return None


def _disk_fault(error: OSError) -> str | None:
    """Of a path that the system will not even look at, such as a name too long, and of a disk that fails."""
    name = error.filename2 or error.filename
    if error.errno in _FULL:
        where = f"{name} cannot be written" if name is not None else "nothing more can be written"
        return f"{where} ({error.strerror}): free some space, or raise the limit on a file's size"
    if name is not None:
        return f"cannot use {name}: {error.strerror}"
    if error.errno in (errno.EIO, errno.EROFS):
        return f"a disk cannot be used: {error.strerror}"
    return None


def _out_of_memory(error: Exception) -> bool:
    if "pipelines.memory" not in sys.modules:
        return False
    from pipelines.memory import out_of_memory

    return isinstance(error, RuntimeError) and out_of_memory(error)


def _told_usage(error: Exception) -> int:
    code: int = error.exit_code  # type: ignore[attr-defined]
    text: str = error.format_message()  # type: ignore[attr-defined]
    context = error.ctx  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":  # Typer has shown the help already, unless it has no Rich
        say.results(f"{text}\n" if text else "")
        return code
    more = f" (see `{context.command_path} --help`)" if context else ""
    say.aside(f"evsam: {text}{more}")
    return code
