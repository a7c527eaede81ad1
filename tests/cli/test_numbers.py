"""Numbers that no option can mean: every verb refuses them in one line, before it does anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from support.runs import evsam
from typer.models import OptionInfo

from evsam_cli.main import app
from evsam_cli.options import models
from pipelines.benchmark.config import BenchmarkConfig
from pipelines.errors import UsageError

ABSURD = ("1" + "0" * 22, "-1" + "0" * 22, "1" * 5000, "1e22", "-1e22", "1e400", "inf", "-inf", "nan")
"""Out of the limits of every number, whole or not."""

IN_TEXT = {
    "--batch": "1,{}",
    "--boxes": "{},7",
    "--grid": "{}",
    "--clicks": "1,{}",
    "--shard": "1/{}",
    "--max-memory": "{}GB",
    "--box": "0,0,{},9",
    "--point": "{},5",
    "--accuracy": "evsam-starter={}",
    "--data": "photos={}",
    "--ontology": "cat=animal@{}",
}
"""Options whose numbers are among other text, and what they look like."""

OUT = ("-o", "out")
VERBS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("segment",): ("nowhere.jpg", *OUT),
    ("text",): ("nowhere.jpg", "cat", *OUT),
    ("everything",): ("nowhere.jpg", *OUT),
    ("detect",): ("nowhere.jpg", *OUT),
    ("compare",): ("nowhere", "nowhere"),
    ("benchmark",): OUT,
    ("export",): ("evsam-starter", *OUT),
    ("evaluate", "coco"): ("nowhere.json", "--gt-boxes", *OUT),
    ("evaluate", "lvis"): ("nowhere.json", "--gt-boxes", *OUT),
    ("evaluate", "sginw"): ("nowhere", *OUT),
    ("evaluate", "bsds"): ("nowhere", "--edges", "nowhere"),
    ("evaluate", "saliency"): ("nowhere", "--images", "nowhere", *OUT),
    ("train", "finetune"): ("--recipe", "l0", *OUT),
    ("train", "distill"): OUT,
    ("train", "detector"): OUT,
}
"""The verbs that take numbers, and what they cannot do without."""

NEEDED = {
    "segment --min-score": ("--boxes", "nowhere.json"),
    "segment --ontology": ("--detector", "grounding-dino-swint"),
    "detect --ontology": ("--detector", "grounding-dino-swint"),
    "everything --high-score-thresh": ("--prompts", "hierarchical"),
    "everything --conf": ("--prompts", "objects"),
    "everything --iou": ("--prompts", "objects"),
    "everything --max-det": ("--prompts", "objects"),
    "everything --imgsz": ("--prompts", "objects"),
}
"""Options that some other one must be there for."""


def verbs(group: typer.Typer, *path: str) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    for command in group.registered_commands:
        assert command.callback is not None
        yield (*path, command.name or command.callback.__name__), command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from verbs(inner.typer_instance, *path, str(inner.name))


def numeric(verb: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """The options of a verb that take numbers, and how a number is given to each."""
    for hint in get_type_hints(verb, include_extras=True).values():
        for info in getattr(hint, "__metadata__", ()):
            if isinstance(info, OptionInfo):
                flag = next(name for name in (info.default, *(info.param_decls or ())) if str(name).startswith("--"))
                kind = get_args(hint)[0]
                kinds = {kind, *get_args(kind)}
                if kinds & {int, float}:
                    yield flag, "{}"
                elif flag in IN_TEXT and kinds & {str, list[str]}:
                    yield flag, IN_TEXT[flag]


OPTIONS = {(*path, flag): (path, flag, pattern) for path, verb in verbs(app) for flag, pattern in numeric(verb)}


def test_all_are_found() -> None:
    assert {path for path, _, _ in OPTIONS.values()} == set(VERBS)
    assert {flag for _, flag, _ in OPTIONS.values()} >= {*IN_TEXT, "--conf", "--draws", "--points-per-side", "--rounds"}


@pytest.mark.parametrize(("path", "flag", "pattern"), OPTIONS.values(), ids=map(" ".join, OPTIONS))
def test_an_absurd_number(
    path: tuple[str, ...], flag: str, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"--ontology": "threshold", "--data": "weight"}.get(flag, flag.split("-")[-1])
    for value in ABSURD:
        number = f"{flag}={pattern.format(value)}"
        _, said = evsam(*path, *VERBS[path], *NEEDED.get(" ".join((*path, flag)), ()), number, code=2)
        assert said.startswith("evsam: ") and said.count("\n") == 1 and named in said
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["9" * 400 + "GB", "9" * 5_000 + "K", "1e9GB", "-1GB", "nanGB", "16777216T"])
def test_amounts_of_memory(text: str) -> None:
    with pytest.raises(UsageError, match="is no amount of memory"):
        models.size(text)
    assert models.size("0.5 gib") == 2**29


@pytest.mark.parametrize(
    ("field", "value"),
    [("batches", (10**22,)), ("boxes", (0,)), ("grids", (1025,)), ("images", -1), ("rounds", 0), ("rounds", 10**400)],
)
def test_a_benchmark_checks_its_own_numbers(field: str, value: object) -> None:
    with pytest.raises(UsageError, match="but must be"):
        BenchmarkConfig(**{field: value})


def test_a_device_of_an_absurd_number(tmp_path: Path) -> None:
    for number in ABSURD:
        _, said = evsam("segment", "nowhere.jpg", "-o", tmp_path / "out", "--device", f"cuda:{number}", code=2)
        assert said.startswith("evsam: ") and said.count("\n") == 1
