"""What is printed: names from strangers' files as text, always in one place, and streams that fail or are closed."""

from __future__ import annotations

import ast
import csv
import html
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Pil
from support.evaluation_cases import HEIGHT, WIDTH, compressed, rectangle
from support.runs import environment, evsam

import evsam_cli
from evsam_cli import say
from pipelines.benchmark.report import _in_table
from pipelines.printable import printable, printable_lines

NASTY = {
    "\x1b]0;owned\x07\x1b[31mred": r"\x1b]0;owned\x07\x1b[31mred",
    "two\nlines\r": r"two\nlines\r",
    "\u202egpj.exe": r"\u202egpj.exe",
    "\u2066isolated\u2069": r"\u2066isolated\u2069",
    "\x9b31m": r"\x9b31m",
    "no\udcff text": r"no\udcff text",
    "zero\u200bwidth\ufeff": r"zero\u200bwidth\ufeff",
    "line\u2028end": r"line\u2028end",
    "[red]x[/] [link=http://a.b]y[/link]": "[red]x[/] [link=http://a.b]y[/link]",
    "größer :smile: 写真 🙂": "größer :smile: 写真 🙂",
}
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")


@pytest.mark.parametrize(("text", "shown"), NASTY.items())
def test_what_is_not_printable_is_escaped(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(text) == shown
    assert printable_lines(f"a\n{text.replace(chr(10), '')}\n").count("\n") == 2
    say.result(text)
    say.aside(text)
    say.table([(text, (text, "green"))], header=("name", text), wide=True)
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert printed.err.splitlines() == [shown] and lines[0] == shown and len(lines) == 3
    assert lines[1].split() == ["name", *shown.split()] and lines[2].split() == shown.split() * 2


def test_documents_are_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    say.document({"name": list(NASTY)})
    out = capsys.readouterr().out
    assert out.isascii() and out.count("\n") == 1 and json.loads(out) == {"name": list(NASTY)}


def _prints(node: ast.AST) -> bool:
    names = {"print", "echo", "secho", "Console", "stdout", "stderr", "print_exc"}
    imported = isinstance(node, ast.ImportFrom) and any(alias.name in names for alias in node.names)
    return imported or getattr(node, "id", getattr(node, "attr", None)) in names


def test_nothing_else_in_the_command_line_prints() -> None:
    """But for what has to be said before evsam's own packages are known to be its own."""
    found = {}
    for path in sorted(Path(evsam_cli.__file__).parent.rglob("*.py")):
        lines = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if _prints(node)]
        if lines and path.name not in ("say.py", "streams.py"):
            found[path.name] = len(lines)
    assert found == {"__main__.py": 2}


# Names in strangers' files


def one_line(err: str, *parts: str) -> str:
    (line,) = [line for line in err.split("\n") if line.startswith("evsam: ")]
    assert err.replace("\n", "").isprintable() and all(part in line for part in parts), err
    return line


@pytest.mark.parametrize("name", list(NASTY)[:5])
def test_names_of_a_truth_and_of_results(name: str, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.json", name)
    (tmp_path / "photos").mkdir()
    command = ("evaluate", "coco", truth, "-o", tmp_path / "out")
    _, err = evsam(*command, "--images", tmp_path / "photos", "--gt-boxes", code=2)
    one_line(err, "truth.json", printable(name))

    results = tmp_path / f"{name}.json"
    mask = compressed(rectangle(0, 0, 9, 9))
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask}]))
    out, _ = evsam(*command, "--results", results, "--no-report")
    assert out.replace("\n", "").isprintable() and printable(name) in out


@pytest.mark.parametrize("name", ["two\nlines", "\u202egpj", "=1+1", "a|b\\", "<b>&", "@x"])
def test_names_in_written_tables_and_pages(name: str, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.json", name)
    results = tmp_path / f"{name}.json"
    mask = compressed(rectangle(0, 0, 9, 9))
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask}]))
    out = tmp_path / "out"
    evsam("evaluate", "coco", truth, "-o", out, "--results", results)
    page, tex, table = ((out / file).read_text() for file in ("report.html", "matrix.tex", "matrix.csv"))
    assert all(text.replace("\n", "").isprintable() for text in (page, tex, table))
    assert html.escape(printable(name)) in page and "<b>&" not in page
    (row,) = list(csv.reader(io.StringIO(table)))[1:]
    assert row[0] == (f"'{name}" if name[0] in "=@" else printable(name)) and table.count("\n") == 2
    assert tex.count("\n") == 8
    if name == "a|b\\":
        assert r"a|b\textbackslash{} & " in tex


def test_names_in_a_benchmark_s_table() -> None:
    assert _in_table("a|b\n") == r"a\|b\n"


def write_truth(path: Path, name: str) -> Path:
    thing = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 9, 9], "area": 81}
    document = {
        "images": [{"id": 1, "file_name": name, "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": name}],
        "annotations": [thing | {"segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]}],
    }
    path.write_text(json.dumps(document))
    return path


def test_arguments_that_are_read_back(tmp_path: Path) -> None:
    for name, shown in NASTY.items():
        for command in (("segment", f"--{name}"), ("segment", "x", "-o", "o", "--conf", name), (f"x{name}",)):
            one_line(evsam(*command, code=2)[1])
        one_line(evsam("train", "recipe", name, code=2)[1])
        one_line(evsam("segment", tmp_path, "-o", tmp_path / name.replace("\0", ""), "--box", "1,1,9,9", code=2)[1])
        assert shown.split()[0] in one_line(evsam("weights", "path", name, code=2)[1]).replace("\\\\", "\\")


LIBRARY = """
import logging, sys, warnings
from evsam_cli import say, streams
name = {name!r}
with streams.kept_safe():
    print(name)
    print(name, file=sys.stderr)
    logging.getLogger("a library").warning(name)
    warnings.warn(name)
    say.table([[("here", "bold")]])
sys.exit(7)
"""


@pytest.mark.parametrize("name", ["\x1b[31mred", "\u202ename", "\x9b31m", "\udcff"])
def test_what_libraries_print(name: str) -> None:
    command = [sys.executable, "-c", LIBRARY.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 7 and (done.stdout + done.stderr).replace("\n", "").isprintable()
    assert done.stderr.count(printable(name)) == 3 and done.stdout.startswith(printable(name))


def test_rich_draws_on_a_terminal_and_libraries_do_not() -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", LIBRARY.format(name="\x1b[31mred")]
    env = {**environment(), "TERM": "xterm", "NO_COLOR": ""}
    subprocess.run(command, stdout=follower, stderr=follower, check=False, env={**env, "NO_COLOR": ""})
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:  # how a terminal whose other end is closed ends
        pass
    os.close(leader)
    assert b"\x1b[1mhere" in shown and b"\x1b[31m" not in shown and shown.count(rb"\x1b[31mred") == 4


# Streams that fail


def run(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evsam_cli", *map(str, arguments)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), **settings}
    return subprocess.run(command, text=True, check=False, **settings)  # type: ignore[call-overload]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Pil.new("RGB", (48, 32), "red").save(path)
    return path


def box(photo: Path) -> tuple[object, ...]:
    return "segment", photo, "-o", photo.parent / "out", "--box", "1,1,30,30", "--device", "cpu", "--save", "jsonl"


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("weights", "list"), ("weights", "list", "--json"), ("train",), "json"],
    ids=str,
)
def test_a_standard_output_that_is_full(arguments: tuple[str, ...] | str, photo: Path) -> None:
    command = (*box(photo), "--json") if arguments == "json" else arguments
    with FULL.open("w") as full:
        done = run(*command, stdout=full)
    assert (done.returncode, done.stderr) == (
        2,
        "evsam: standard output cannot be written: No space left on device\n",
    )


def closing(*numbers: int) -> Callable[[], None]:
    return lambda: [os.close(number) for number in numbers] and None


@pytest.mark.skipif(os.name == "nt", reason="needs file descriptors that are closed")
@pytest.mark.parametrize("numbers", [(2,), (1,), (0, 1, 2)])
def test_closed_streams_change_nothing(numbers: tuple[int, ...], photo: Path) -> None:
    done = run(*box(photo), "--json", preexec_fn=closing(*numbers))
    assert done.returncode == 0 and (photo.parent / "out/run.json").exists()
    assert bool(done.stdout) == (1 not in numbers) and not done.stderr
    assert (photo.parent / "out/records.jsonl").read_text().count("\n") == 1


@needs_full
def test_standard_error_that_is_full_changes_nothing(photo: Path) -> None:
    with FULL.open("w") as full:
        assert run(*box(photo), stderr=full).returncode == 0
        assert run("weights", "list", stderr=full).returncode == 0
        assert run("nothing", stderr=full).returncode == 2


@pytest.mark.parametrize("arguments", [("--help",), ("weights", "list", "--json")])
def test_nobody_reads_on(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(*arguments, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    env = {**environment(), "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "EVSAM_HOME": str(tmp_path)}
    for command in (("--help",), ("weights", "list"), ("train", "recipe", "l0")):
        done = run(*command, env=env)
        assert done.returncode == 0 and done.stdout.isascii() and not done.stderr
    done = run("weights", "path", "größer", env=env)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_table_wider_than_a_page_becomes_several_each_with_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = [f"value {i}" for i in range(30)]
    say.table([["a row", *numbers]], header=("name", *numbers), names=1, wide=True)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= say.PAGE
    assert [line.split()[0] for line in lines[::2]] == ["name"] * (len(lines) // 2)
    shown = " ".join(line.removeprefix("a row") for line in lines[1::2])
    assert shown.split() == " ".join(numbers).split()
