"""Ctrl-C and SIGTERM: the first ends in good order, the second at once, wherever it comes."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from support.runs import photo_folder, run_apart, run_stopped, started

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
TOLD = "evsam: interrupted; "
AGAIN = [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)]

WAITING = {
    "for a thread": """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 600)
        try:
            say.result("ready")
            time.sleep(600)
        finally:
            say.result("tidying")
""",
    "in native code": """
    say.result("ready")
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
""",
    "for a process": """
    from multiprocessing import get_context
    child = get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    try:
        say.result("ready")
        time.sleep(600)
    finally:
        say.result("tidying")
        child.join()
""",
}
SCRIPT = """
import hashlib, sys, time
from evsam_cli import __main__, interrupts, say
def work():{work}
__main__.run_command = work
if __name__ == "__main__":
    __main__.main()
"""


@pytest.mark.parametrize("signals", AGAIN, ids=str)
@pytest.mark.parametrize("what", WAITING)
def test_the_second_ends_at_once(what: str, signals: tuple[signal.Signals, signal.Signals], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(work=WAITING[what]))
    with started(python=(str(script),)) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signals[0])
        if "tidying" in WAITING[what]:
            assert process.stdout.readline() == "tidying\n"
        while process.poll() is None:  # again and again: two of a kind that come at once are one to the system
            process.send_signal(signals[1])
            time.sleep(0.05)
        _, err = process.communicate()  # also of the process that was started: it holds the streams
    assert process.returncode == 130 and err.startswith(TOLD) == bool(err) and err.count("\n") <= 1, err


FORGETTING = """
import signal
from evsam_cli import __main__
class Forgotten:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def work():
    Forgotten()
    import time
    time.sleep(600)
__main__.run_command = work
__main__.main()
"""


def test_the_way_out_is_never_swallowed() -> None:
    done = run_apart(python=("-c", FORGETTING))
    assert done.returncode == 130 and done.stderr.startswith(TOLD) and done.stderr.count("\n") == 1


def test_of_a_run_at_any_time(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 30)
    rng = random.Random(0)
    for index, signals in enumerate(AGAIN):
        command = ("segment", folder, "-o", tmp_path / f"{index}", "--box", "9,9,60,60", "--json")
        done = run_stopped(*command, after=rng.randint(1, 3), pause=rng.choice([0.001, 0.01, 0.1]), signals=signals)
        told = [line for line in done.stderr.splitlines() if line != "30 images"]
        assert done.returncode == 130 and "Traceback" not in done.stderr and len(told) <= 1, done.stderr
