"""Help pages on a terminal of 80 characters, their examples, and what shells complete."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.runs import evsam

from evsam_cli import pages
from evsam_cli.reference import commands
from weights import manifest

WIDTH = 80
ROOT = Path(__file__).parents[2]
COMMANDS = {context.command_path: (command, context) for command, context in commands()}
every_command = pytest.mark.parametrize("path", COMMANDS)


@every_command
def test_a_page_fits_a_terminal(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    command, context = COMMANDS[path]
    out, _ = evsam(*path.split()[1:], "--help")
    assert max(map(len, out.splitlines())) <= WIDTH
    assert not re.search(r"…|<\w+>|\bRANGE\b|\bTEXT\b|\bINTEGER\b|\bFLOAT\b|\[\d+<=x|\[/|\\\[", out)
    words = out.split()
    for parameter in command.get_params(context):
        assert parameter.param_type_name == "argument" or set(parameter.opts) <= {word.strip(",") for word in words}
        assert parameter.help, parameter.name
        assert parameter.metavar or getattr(parameter, "is_flag", False), parameter.name
    assert words[-1] in command.epilog


def examples(path: str) -> Iterator[list[str]]:
    """The words of each example of a command, and those of commands inside of it."""
    for line in COMMANDS[path][0].epilog.strip().splitlines():
        words = shlex.split(line, comments=True)
        start = next((i for i, word in enumerate(words) if word.endswith("evsam")), None)
        if start is not None:
            yield words[start + 1 :]


def parse(words: list[str]) -> Any:
    """Read a command line as `evsam` does, and run nothing."""
    command, context = COMMANDS["evsam"]
    arguments = list(words)
    while hasattr(command, "commands") and not arguments[0].startswith("-"):
        command = command.commands[arguments.pop(0)]
        context = COMMANDS[" ".join(["evsam", *words[: len(words) - len(arguments)]])][1]
    stop = next((i for i, word in enumerate(arguments) if word in (">", "|")), len(arguments))
    return command.make_context(command.name, arguments[:stop], parent=context.parent)


@every_command
def test_examples_are_commands(path: str) -> None:
    lines = COMMANDS[path][0].epilog.strip().splitlines()
    assert lines[0].startswith("#") and not lines[-1].startswith("#")
    assert all(not line.startswith("#") or after for line, after in pairwise(lines)), "a comment has its command"
    found = list(examples(path))
    assert found
    assert path == "evsam" or any(" ".join(words).startswith(path.removeprefix("evsam ")) for words in found)
    for words in found:
        if "--help" not in words:
            parse(words)


def test_an_option_that_does_not_exist_would_be_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["segment", "photos/", "-o", "out", "--detectors", "x"])


def test_numbers_are_explained_in_words() -> None:
    out, _ = evsam("segment", "--help")
    text = " ".join(out.split())
    assert "[a number from 0 to 1; default: objects 0.1, object-aware 0.4, others 0.25]" in text
    assert "[a whole number from 1 to 100000; default: 300]" in text
    for value in ("x", "1.5", "nan"):
        _, said = evsam("segment", "a.jpg", "-o", "out", "--conf", value, code=2)
        assert (
            said
            == f"evsam: Invalid value for '--conf': '{value}' is no number from 0 to 1 (see `evsam segment --help`)\n"
        )


def test_verbs_are_in_panels() -> None:
    shown = pages.page(*COMMANDS["evsam"]).panels
    verbs = {title: [entry.names for entry in entries] for title, entries in shown.items()}
    assert verbs["Segment"] == ["segment", "text", "everything", "detect"]
    assert verbs["Score"] == ["evaluate", "compare", "benchmark"]
    assert verbs["Housekeeping"] == ["models", "weights", "doctor", "convert", "merge"] and "Commands" not in verbs


# Completion


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user who has typed `evsam --install-completion` in bash."""
    if os.name == "nt":
        pytest.skip("needs bash")
    home = tmp_path_factory.mktemp("home")
    command = home / "bin/evsam"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evsam_cli "$@"\n')
    command.chmod(0o755)
    env = {"HOME": str(home), "PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", "evsam --install-completion; exit $?"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and "bash completion installed" in done.stdout, done.stderr
    return env


COMPLETE = """
. ~/.bashrc
read -ra COMP_WORDS <<< "$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
$(complete -p evsam | sed 's/.*-F \\([^ ]*\\).*/\\1/') evsam
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("evsam seg", ["segment"]),
        ("evsam segment photos --sam efficientvit-sam-l", [f"efficientvit-sam-l{i}" for i in range(3)]),
        ("evsam segment photos -d grounding-dino-s", ["grounding-dino-swint", "grounding-dino-swinb"]),
        ("evsam segment photos --save coco,ov", ["coco,overlay"]),
        ("evsam everything photos --prompts ", ["grid", "objects", "edges", "hierarchical"]),
        ("evsam weights pull yolov8", [name for name in manifest.names() if name.startswith("yolov8")]),
        ("evsam evaluate coco --proto", ["--protocol"]),
        ("evsam export sam-v", ["sam-vit-b", "sam-vit-l", "sam-vit-h"]),
        ("evsam segment photos --boxes ", [""]),
    ],
)
def test_bash_completes(typed: str, offered: list[str], shell: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", typed], env=shell, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.splitlines()) == sorted(offered) and not done.stderr


def installed(name: str, shell: dict[str, str]) -> dict[str, str]:
    """The same of another shell, if it is on this machine."""
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    told = subprocess.run([name, "-c", "evsam --install-completion; true"], env=shell, capture_output=True, text=True)
    assert f"{name} completion installed" in told.stdout, told.stderr
    return {**shell, "TERM": "dumb"}


TYPED = {
    "evsam seg": "evsam segment",
    "evsam segment photos --sam evsam-": "evsam segment photos --sam evsam-starter",
    "evsam segment photos -d object-": "evsam segment photos -d object-aware",
    "evsam segment photos --save coco,ov": "evsam segment photos --save coco,overlay",
    "evsam everything photos --prompts hi": "evsam everything photos --prompts hierarchical",
    "evsam segment photos --boxes box": "evsam segment photos --boxes boxes.json",
}
"""What a key for completion makes of what is typed, in a folder that holds a boxes.json."""


@pytest.mark.parametrize("typed", TYPED)
def test_fish_completes(typed: str, shell: dict[str, str], here: Path) -> None:
    (here / "boxes.json").touch()
    ask = ["fish", "-c", f"complete -C '{typed}'"]
    done = subprocess.run(ask, env=installed("fish", shell), capture_output=True, text=True, check=True)
    offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert offered == [TYPED[typed].rpartition(" ")[2]] and not done.stderr


def test_zsh_completes(shell: dict[str, str], here: Path) -> None:
    """As a user sees it, on a terminal."""
    import pty

    (here / "boxes.json").touch()
    env = installed("zsh", shell)
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-i"], env)
    try:
        wait_for(terminal, "\x1b[?2004h")  # it listens
        for typed, line in TYPED.items():
            os.write(terminal, f"{typed}\t".encode())
            wait_for(terminal, line)
            os.write(terminal, b"\x15")  # takes the line away
    finally:
        os.close(terminal)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def wait_for(terminal: int, text: str) -> None:
    shown = ""
    while text not in shown and select.select([terminal], [], [], 60)[0]:
        shown += os.read(terminal, 4096).decode(errors="replace").replace("\a", "")
    assert text in shown
