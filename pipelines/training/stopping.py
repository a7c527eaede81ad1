"""Ctrl-C in the middle of a step would lose every step since the last checkpoint: it waits until the step is saved."""

from __future__ import annotations

import signal
import sys
import threading
from types import TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalsPutOff:
    """While entered, the first SIGINT or SIGTERM is kept for `act`; a second one acts at once. enabled: False where it
    is another process that decides. Outside of the main thread it does nothing.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled and threading.current_thread() is threading.main_thread()
        self._asked: signal.Signals | None = None

    def __enter__(self) -> SignalsPutOff:
        if self._enabled:
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
            for number in _SIGNALS:
                signal.signal(number, self._keep)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled:
            self._restore()

    @property
    def asked(self) -> bool:
        """Whether somebody wants the process to stop."""
        return self._asked is not None

    def act(self) -> None:
        """What the signal would have done, if there was one."""
        if self._asked is None:
            return
        before = self._before[self._asked]
        if callable(before):  # not by a second signal, which somebody may count
            before(self._asked, None)
        else:
            signal.raise_signal(self._asked)

    def _keep(self, number: int, _: object) -> None:
        self._asked = signal.Signals(number)
        self._restore()
        print("stopping when this step is saved; once more stops at once", file=sys.stderr)

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
