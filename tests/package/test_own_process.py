"""The plugin that runs marked tests in a second process: every outcome arrives as if they had run in the first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

CONFTEST = """
import os, pytest
from support import own_process

def pytest_configure(config):
    config.addinivalue_line("markers", "own_process")
    own_process.install(config)

@pytest.fixture(autouse=True)
def _where(record_property):
    record_property("process", os.getpid())
"""
FIRST = """
def test_before(): pass
"""
SECOND = """
import os, pytest
pytestmark = pytest.mark.own_process

@pytest.fixture
def broken():
    yield
    raise OSError("no way back")

@pytest.mark.parametrize("x", ["a::b]", "ä"])
def test_passes(x): pass
def test_fails(): print("printed before"); assert [1, 2] == [1, 3]
def test_skips(): pytest.skip("for a reason")
@pytest.mark.xfail(reason="known")
def test_is_known(): assert 0
def test_leaves_a_mess(broken): pass
def test_left_out(): assert 0
def test_dies(): os.abort()
def test_goes_on(): pass
"""
THIRD = """
import pytest

def test_after(): pass
@pytest.mark.own_process
def test_alone(): pass
"""


def outcomes(folder: Path, *options: str) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """The outcome of each test of a suite with its text, and the process in which it ran."""
    for name, text in {"conftest": CONFTEST, "test_1": FIRST, "test_2": SECOND, "test_3": THIRD}.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "pytest.ini").touch()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "--junitxml", "report.xml", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    found, where = {}, {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        name = case.attrib["name"]
        text = [child for child in case if child.tag in ("failure", "error", "skipped")]
        found[name] = (text[-1].tag, f"{text[-1].get('message')} {text[-1].text}") if text else ("passed", "")
        where.update((name, each.attrib["value"]) for each in case.iter("property"))
    return found, where


def test_every_outcome_arrives(tmp_path: Path) -> None:
    found, where = outcomes(tmp_path, "-k", "not left_out", "-o", "junit_logging=all")
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "test_before": "passed",
        "test_passes[a::b]]": "passed",
        "test_passes[\\xe4]": "passed",
        "test_fails": "failure",
        "test_skips": "skipped",
        "test_is_known": "skipped",
        "test_leaves_a_mess": "error",
        "test_dies": "failure",
        "test_goes_on": "passed",
        "test_after": "passed",
        "test_alone": "passed",
    }
    for name, text in {
        "test_fails": "assert [1, 2] == [1, 3]",
        "test_skips": "for a reason",
        "test_is_known": "known",
        "test_leaves_a_mess": "no way back",
        "test_dies": "ended with exit code -6",
    }.items():
        assert text in found[name][1]
    assert "Fatal Python error: Aborted" in found["test_dies"][1]
    first, second, third = where["test_before"], where["test_fails"], where["test_goes_on"]
    assert len({first, second, third}) == 3 and where["test_after"] == first and where["test_alone"] == third
    assert {where[name] for name in where if name.startswith(("test_passes", "test_skips", "test_is"))} == {second}


@pytest.mark.parametrize("chosen", [(), ("test_2.py::test_fails", "test_2.py::test_goes_on")])
def test_a_failure_ends_a_run_that_was_to_end_there(chosen: tuple[str, ...], tmp_path: Path) -> None:
    found, _ = outcomes(tmp_path, "-x", *chosen)
    assert list(found)[-1] == "test_fails" and len(found) == (1 if chosen else 5)
