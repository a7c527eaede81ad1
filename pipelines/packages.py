"""Packages of others that cannot be loaded: too little memory, an installation that is broken or incomplete."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from traceback import walk_tb

OURS = ("evsam_cli", "pipelines", "weights")
_NO_MEMORY = ("annot allocate memory", "failed to map segment", "can't start new thread")
"""What loaders say when memory runs out."""


def unloadable(error: BaseException) -> str | None:
    """Which package cannot be loaded, and why, in one line; None when `error` is about something else.

    A name that a module of evsam's own asks another one for in vain is something else: a mistake in evsam.
    """
    package = next(_being_loaded(error), None)
    if package is None:
        return None
    reason = textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
    if isinstance(error, MemoryError) or any(words in reason for words in _NO_MEMORY):
        return f"there is not enough memory to load {package} ({reason}): free some, or raise the limit that is set"
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name!r} is missing: install evsam again, in an environment of its own"
    return f"{package} is installed but cannot be loaded ({reason}): install it again"


def _being_loaded(error: BaseException) -> Iterator[str]:
    """The packages of others that were being loaded when `error` was raised, the outermost first."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    for frame in frames:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if frame.f_code.co_name == "<module>" and package not in (*OURS, "__main__", ""):
            yield package
    if isinstance(error, ImportError):
        package = (error.name or frames[-1].f_globals.get("__name__", "")).partition(".")[0]
        if package not in OURS:
            yield package
