"""An empty path, such as a shell variable that is not set gives, is never the working folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.runs import evsam

import evsam_cli


def path_options() -> Iterator[tuple[str, ast.Call]]:
    """Every argument and option of the command line whose type is a path: where it stands, and its call."""
    for file in sorted(Path(evsam_cli.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated":
                assert isinstance(node.slice, ast.Tuple)
                kind, call = node.slice.elts
                if "Path" in ast.unparse(kind):
                    assert isinstance(call, ast.Call)
                    yield f"{file.name}:{node.lineno}", call


def test_every_path_of_the_command_line_is_read_by_one_function() -> None:
    found = list(path_options())
    assert len(found) > 20
    for where, call in found:
        parsers = [ast.unparse(word.value) for word in call.keywords if word.arg == "parser"]
        assert parsers in (["options.path"], ["path"]), where


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment", "photo.jpg", "-o", "", "--box", "1,1,5,5"),
        ("segment", "photo.jpg", "-o", "out", "--boxes", ""),
        ("segment", "photo.jpg", "-o", "out", "--weights", ""),
        ("everything", "photo.jpg", "--output="),
        ("detect", "photo.jpg", "-o", "", "--overwrite"),
        ("merge", "part", "-o", ""),
        ("merge", "", "-o", "out"),
        ("evaluate", "coco", "truth.json", "--images", "", "-o", "out", "--gt-boxes"),
        ("evaluate", "coco", "", "-o", "out", "--results", "results.json"),
        ("benchmark", "evsam-starter", "-o", ""),
        ("export", "evsam-starter", "-o", "", "--format", "onnx"),
        ("compare", "", "b"),
        ("train", "finetune", "-o", "", "--recipe", "starter"),
        ("train", "finetune", "-o", "out", "--recipe", "starter", "--data", ""),
        ("train", "finetune", "-o", "out", "--recipe", "starter", "--data", "=3"),
        ("train", "finetune", "-o", "out", "--recipe", "starter", "--data", "x", "--val", ""),
        ("train", "distill", "-o", "out", "--teacher", "evsam-starter", "--model", "evsam-starter", "--data", ""),
    ],
)
def test_an_empty_path_is_refused(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, err = evsam(*arguments, code=2)
    assert "it is empty: was a shell variable not set?" in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
