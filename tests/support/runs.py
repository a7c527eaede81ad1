"""Helpers of the tests that run the command line as a user does."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import typer.main
from PIL import Image as Pil

from evsam_cli.__main__ import run_command
from pipelines.outputs.folder import STATE

QUICK = ("--imgsz", "96", "--conf", "0.06", "--max-det", "2", "--device", "cpu")
"""Options that make the bundled detector quick, and willing to find something in small pictures."""

COMMAND = cache(typer.main.get_command)
"""Typer makes the same command of the same verbs each time, in tens of milliseconds."""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::ResourceWarning"}


STOPPED = """
import os, sys, threading, time
from evsam_cli.__main__ import main
from pipelines.run.journal import Journal

left, pause, signals = (kind(sys.argv.pop(1)) for kind in (int, float, str))

def stop():
    for number in signals.split(","):
        time.sleep(pause)
        os.kill(os.getpid(), int(number))

def counted(journal, record, add=Journal.add):
    global left
    add(journal, record)
    left -= 1
    if not left:
        thread.start() if pause else stop()

thread = threading.Thread(target=stop)
Journal.add = counted
try:
    main()
finally:  # it is stopped even where it was done before
    thread.join()
"""


def run_apart(*arguments: object, python: Sequence[str] = ("-m", "evsam_cli")) -> subprocess.CompletedProcess[str]:
    """Run `evsam` to its end in a process of its own."""
    command = [sys.executable, *python, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment())


def run_stopped(
    *arguments: object, after: int, pause: float = 0, signals: Sequence[signal.Signals] = (signal.SIGKILL,)
) -> subprocess.CompletedProcess[str]:
    """Run `evsam` in a process that stops itself by `signals` when it has recorded `after` images.

    However fast the machine is: nobody has to look at the right time. pause: seconds before each signal, in which the
    process goes on.
    """
    return run_apart(after, pause, ",".join(str(int(number)) for number in signals), *arguments, python=("-c", STOPPED))


@contextmanager
def started(*arguments: object, python: Sequence[str] = ("-m", "evsam_cli")) -> Iterator[subprocess.Popen[str]]:
    """`evsam` as a process of its own, which ends with the block at the latest."""
    command = [sys.executable, *python, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def evsam(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Run `evsam` to its end, in this process; returns what it printed on stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", ["evsam", *map(str, arguments)]),
        patch.object(typer.main, "get_command", COMMAND),
    ):
        with pytest.raises(SystemExit) as end:
            run_command()
            raise SystemExit(0)
    assert (end.value.code or 0) == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def journal_of(folder: Path) -> Path:
    """What the run in `folder` remembers of its images, one JSON record a line."""
    return folder / STATE / "journal.jsonl"


def final_files(folder: Path) -> dict[str, str]:
    """Digest of every file of a run, but its state and `run.json`."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and STATE not in path.parts and path.name != "run.json"
    }


def noise_folder(folder: Path, names: Iterable[str], side: int = 96) -> Path:
    """A PNG of noise, `side` x `side`, for each name."""
    folder.mkdir()
    for seed, name in enumerate(names):
        noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
        Pil.fromarray(noise).save(folder / f"{name}.png")
    return folder


def photo_folder(folder: Path, photographs: list[Path], count: int, *, every: int = 3) -> Path:
    """`count` small pictures: each `every`-th a cut of a photograph, one in fifty broken, the others plain grey."""
    folder.mkdir()
    scenes = [Pil.open(path).convert("RGB").resize((480, 360)) for path in photographs]
    rng = np.random.default_rng(count)
    for i in range(count):
        path = folder / f"photo {i:04d}.jpg"
        if i % 50 == 7:
            path.write_bytes(b"\xff\xd8\xff broken")
        elif i % every:
            Pil.new("RGB", (96, 96), (120, 120, 120)).save(path)
        else:
            x, y = int(rng.integers(0, 300)), int(rng.integers(0, 200))
            scenes[i % len(scenes)].crop((x, y, x + 170, y + 150)).save(path)
    return folder
