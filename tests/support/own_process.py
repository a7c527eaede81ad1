"""A pytest plugin: tests marked `own_process` run in a second process, one for all of them, away from the others.

OpenVINO needs it: where it has run, later tests in the same process can crash (2026.4.1, seen with torch's data
loaders). The second process is pytest again, with the same arguments; it runs the marked tests alone, beside the first
one, and sends its reports, which count here as if the tests had run here. The first one comes to them when it has run
its own. A process that dies fails the test that it was at and shows what it had printed; another one goes on with the
rest.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import tempfile
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

SHOWN = 10_000
"""Characters of what a process printed that are shown where it died."""


def install(config: pytest.Config) -> None:
    """For `pytest_configure`. With --pdb nothing runs elsewhere: the second process has no terminal."""
    is_second = any(isinstance(plugin, Inside) for plugin in config.pluginmanager.get_plugins())
    if not is_second and not config.getoption("usepdb"):
        config.pluginmanager.register(Outside(config))


def marked(item: pytest.Item) -> bool:
    return item.get_closest_marker("own_process") is not None


class Outside:
    """In the first process: waits for the reports on each marked test, in place of running it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.process: Process | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=marked)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        if not (session.testsfailed or self.config.option.collectonly):
            self.start(session.items)

    def start(self, items: Sequence[pytest.Item]) -> None:
        chosen = [item for item in items if marked(item)]
        self.process = Process(self.config, chosen) if chosen else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not marked(item):
            return None
        hook = self.config.hook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self.reports(item):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def reports(self, item: pytest.Item) -> list[pytest.TestReport]:
        if self.process is None:
            self.start(item.session.items[item.session.items.index(item) :])
        assert self.process is not None
        try:
            found = self.process.reports(item.nodeid)
        except EOFError:
            code, printed = self.process.end()
            self.process = None
            text = f"The process of the tests marked own_process ended with exit code {code} in this one.\n{printed}"
            return [pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")]
        from_data = self.config.hook.pytest_report_from_serializable
        return [from_data(config=self.config, data=data) for data in found]

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> bool | None:
        """The second process keeps the time."""
        return marked(item) or None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self.process is not None:
            self.process.end(stop=bool(self.process.left))


class Process:
    """The second process, which runs `items`."""

    def __init__(self, config: pytest.Config, items: Sequence[pytest.Item]) -> None:
        self.left = {item.nodeid for item in items}
        self.arrived: dict[str, list[dict[str, Any] | None]] = defaultdict(list)
        self.output = tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace")
        self.connection, far_end = multiprocessing.Pipe(duplex=False)
        arguments = [os.fspath(argument) for argument in config.invocation_params.args]
        if config.option.basetemp:  # a folder that pytest empties
            arguments.append(f"--basetemp={config.option.basetemp}-own-process")
        plugin = Inside(far_end, [item.nodeid for item in items], {item.path for item in items})
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
        place = config.invocation_params.dir
        self.process = context.Process(target=inside, args=(plugin, arguments, place, self.output.name))
        self.process.start()
        far_end.close()
        self.inbox: queue.SimpleQueue[tuple[str, dict[str, Any] | None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """At once, as the process waits where its pipe is full; None for its end."""
        with suppress(EOFError, OSError):
            while True:
                self.inbox.put(self.connection.recv())
        self.inbox.put(None)

    def reports(self, nodeid: str) -> list[dict[str, Any] | None]:
        """Those on one test, waited for. Raises EOFError where the process ends before they are complete."""
        while self.arrived[nodeid][-1:] != [None]:
            message = self.inbox.get()
            if message is None:
                raise EOFError
            self.arrived[message[0]].append(message[1])
        self.left.remove(nodeid)
        return self.arrived.pop(nodeid)[:-1]

    def end(self, *, stop: bool = False) -> tuple[int | None, str]:
        """Wait for it to end, or make it. Returns its exit code and the end of what it printed."""
        if stop:
            self.process.kill()
        self.process.join()
        with self.output:
            return self.process.exitcode, self.output.read()[-SHOWN:]


def inside(plugin: Inside, arguments: list[str], place: Path, output: str) -> None:
    """What the second process does: `arguments` as in the first, in the same folder."""
    with Path(output).open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(place)
    raise SystemExit(pytest.main(arguments, plugins=[plugin]))


class Inside:
    """In the second process: keeps to the tests that it was given, and sends every report.

    A test's reports are followed by None.
    """

    def __init__(self, connection: Connection, nodeids: Sequence[str], files: set[Path]) -> None:
        self.connection = connection
        self.places = {nodeid: place for place, nodeid in enumerate(nodeids)}
        self.files = files

    def pytest_configure(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        return (collection_path.is_file() and collection_path not in self.files) or None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.places), key=lambda i: self.places[i.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.connection.send((report.nodeid, data))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.connection.send((nodeid, None))
