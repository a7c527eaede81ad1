"""How a command ends that cannot go on: one line for what the machine lacks, a traceback for a mistake of evsam's."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import environment, evsam

from evsam_cli.ending import told
from pipelines.errors import SetupError
from pipelines.packages import unloadable

VERBS = "segment text everything detect merge doctor evaluate compare benchmark export train weights".split()
SEGMENT = ("segment", "photo.png", "-o", "out", "--box", "1,1,9,9")


def run(*arguments: str, code: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """A process of its own. code: what it does before anything else."""
    script = f"import sys\n{code}\nfrom evsam_cli.__main__ import main\nsys.argv = {['evsam', *arguments]!r}\nmain()"
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**environment(), "PYTHONPATH": str(Path(__file__).parents[2]), **env},
        check=False,
    )


@pytest.mark.skipif(os.name == "nt", reason="a folder in use cannot be deleted there")
@pytest.mark.parametrize("verb", [*VERBS, "--help", "--version"])
def test_a_working_folder_that_is_gone(verb: str, tmp_path: Path) -> None:
    code = f"import os\nos.mkdir({str(tmp_path / 'w')!r}); os.chdir({str(tmp_path / 'w')!r}); os.rmdir(os.getcwd())"
    done = run(verb, code=code)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "evsam: the working folder cannot be used (No such file or directory): change to one that exists\n"
    )


BROKEN = {
    "raise ImportError('undefined symbol: x\\n\\nREAD THIS')": "torch is installed but cannot be loaded (undefined "
    "symbol: x READ THIS): install it again",
    "raise OSError(12, 'Cannot allocate memory')": "there is not enough memory to load torch",
    "raise MemoryError": "there is not enough memory to load torch (MemoryError)",
    "raise RuntimeError('can\\'t start new thread')": "there is not enough memory to load torch",
    "raise SystemError('initialization failed')": "torch is installed but cannot be loaded (initialization failed)",
    "import nothing_like_it": "the package 'nothing_like_it' is missing: install evsam again",
    "from os import nothing_like_it": "torch is installed but cannot be loaded (cannot import name 'nothing_like_it'",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_torch_that_cannot_be_loaded(code: str, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(code)
    broken = f"sys.path.insert(0, {str(tmp_path)!r})"
    done = run(*SEGMENT, code=broken)
    assert done.returncode == 2 and done.stderr.startswith(f"evsam: {BROKEN[code]}") and done.stderr.count("\n") == 1
    done = run("doctor", "--json", code=broken)
    assert done.returncode == 2 and '"verdict": "fault"' in done.stdout and not done.stderr
    assert '"topic": "weights"' in done.stdout, "the rest is looked at all the same"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
@pytest.mark.parametrize("gigabytes", [0.4, 1.6, 2.5])
def test_too_little_memory_for_torch(gigabytes: float) -> None:
    limit = int(gigabytes * 2**30)
    done = run(*SEGMENT, code=f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert done.returncode == 2 or "OpenBLAS" in done.stderr, "which ends the process itself"


def test_mistakes_of_evsam_s_own_stay_tracebacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for code, name in (
        ("import pipelines; del pipelines.OWNER", "OWNER"),
        ("import pipelines.errors; del pipelines.errors.DataError", "DataError"),
    ):
        done = run(*SEGMENT, code=code)
        assert done.returncode != 0 and (name == "OWNER" or ("Traceback" in done.stderr and name in done.stderr))
    try:
        from pipelines.errors import nothing_like_it  # noqa: F401
    except ImportError as error:
        assert unloadable(error) is None and told(error) is None
    try:
        raise ValueError("\x1b[31m")
    except ValueError as error:
        assert unloadable(error) is None and told(error) is None


def test_a_traceback_shows_no_name_raw(tmp_path: Path) -> None:
    code = "import evsam_cli.doctor, pipelines.doctor\ndef examine(): raise ValueError('\\x1b[31mname')\n"
    done = run("doctor", code=f"{code}pipelines.doctor.examine = examine")
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert "\x1b" not in done.stderr and r"ValueError: \x1b[31mname" in done.stderr


FAULTS = [
    (OSError(errno.ENOSPC, "No space left on device"), "nothing more can be written (No space left on device)"),
    (OSError(errno.EFBIG, "File too large"), "nothing more can be written (File too large)"),
    (OSError(errno.EDQUOT, "Disk quota exceeded", "a\nb"), r"a\nb cannot be written (Disk quota exceeded)"),
    (OSError(errno.EROFS, "Read-only file system"), "a disk cannot be used: Read-only file system"),
    (OSError(errno.EIO, "Input/output error"), "a disk cannot be used: Input/output error"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "a"), "cannot use a: File name too long"),
    (MemoryError(), "memory ran out"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), "memory ran out"),
    (SetupError("the text"), "the text"),
]


@pytest.mark.parametrize(("error", "line"), FAULTS, ids=lambda value: repr(value)[:30])
def test_what_the_machine_lacks(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    import pipelines.memory  # noqa: F401  which knows what torch says

    assert told(error) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"evsam: {line}") and err.count("\n") == 1


def test_nobody_reads_on_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(BrokenPipeError()) == 1 and capsys.readouterr() == ("", "")
    assert told(OSError("of no number")) is None


def test_usage_faults_are_one_line() -> None:
    for arguments in (("segment",), ("segment", "x"), ("segment", "x", "-o"), ("nothing",), ("train", "x"), ("--no",)):
        out, err = evsam(*arguments, code=2)
        assert not out and err.startswith("evsam: ") and err.count("\n") == 1
    for arguments in ((), ("train",), ("weights",)):
        out, err = evsam(*arguments, code=2)
        assert "Usage" in out + err and "evsam: " not in err
