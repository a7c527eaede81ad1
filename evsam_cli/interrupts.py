"""Ctrl-C and SIGTERM: the first ends the command in good order, the second at once and without a word."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

EXIT_CODE = 130
TOLD = "evsam: interrupted; a command that has --resume goes on with it, and nothing finished is lost"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = b"\x1b[?25h\n"
_interrupted = threading.Event()


def handle() -> None:
    """Do so from now on."""
    _set(_end)
    atexit.register(_finish)  # the first to be registered, and so the last to be done
    sys.unraisablehook = _hook
    _listen()


def came() -> bool:
    """Whether the command was told to end; libraries may turn the way out into a fault of what they were at."""
    return _interrupted.is_set()


def leave_at_once() -> None:
    """From now on at the first one: what is left is Python's own tidying, which tells at length of being stopped."""
    _set(_leave)


def _set(handler: Callable[..., object] | signal.Handlers) -> None:
    for number in _SIGNALS:
        signal.signal(number, handler)


def _end(*_: object) -> NoReturn:
    """Leave through every `finally`; Typer would turn a KeyboardInterrupt into exit code 1."""
    if _interrupted.is_set():
        _leave()
    _interrupted.set()
    raise SystemExit(EXIT_CODE)


def _hook(fault: sys.UnraisableHookArgs) -> None:
    """Where Python passes no exception on, as when it forgets an object, the way out ends, and there is no other."""
    if not (_interrupted.is_set() and isinstance(fault.exc_value, SystemExit)):
        sys.__unraisablehook__(fault)
        return
    from evsam_cli import say

    say.aside(TOLD)
    _leave()


def _listen() -> None:
    """Python's handlers wait until native code is done, which may take long: a thread hears of the second one, too."""
    heard, told = os.pipe()
    if os.name != "nt":
        os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # a terminal's Ctrl-C is for all processes, each of which would tell of it
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

    def count() -> None:
        left = 2
        while left:
            left -= os.read(heard, 1)[0] in _SIGNALS
        _leave()

    threading.Thread(target=count, name="interrupts", daemon=True).start()


def _leave(*_: object) -> NoReturn:
    """End the process where it is, and those that it started."""
    try:
        if multiprocessing := sys.modules.get("multiprocessing"):
            for child in multiprocessing.active_children():
                child.kill()
        if os.isatty(2):
            os.write(2, _SHOW_CURSOR)  # which a progress bar has hidden
    finally:
        os._exit(EXIT_CODE)


def _finish() -> None:
    """Nothing is left that could be stopped, or that somebody who wants to stop would wait for."""
    if _interrupted.is_set():
        os._exit(EXIT_CODE)
    _set(signal.SIG_IGN)
