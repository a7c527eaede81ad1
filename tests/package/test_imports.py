"""The house has floors: a room imports from rooms below it, and no two modules import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = (
    ("weights",),
    ("outputs",),
    ("images",),
    ("labels",),
    ("detectors", "sam"),
    ("run",),
    ("prompts",),
    ("segment", "detect", "convert"),
    ("everything", "export", "doctor", "models"),
    ("evaluation",),
    ("training",),
    ("benchmark",),
    ("evsam_cli",),
)
"""Rooms from the ground up. Every other module of `pipelines` is on the ground: the words that everybody uses."""
LEVEL = {room: level for level, rooms in enumerate(FLOORS, 1) for room in rooms}


def modules(root: Path) -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for top in ("evsam_cli", "pipelines", "weights"):
        for path in (root / top).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(code: str, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of ours that a module imports anywhere but for types, also inside functions."""
    tree = ast.parse(code)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in known else node.module for name in inner if node.module in known)


def room(module: str) -> str:
    """The room that a module is in: its package, or for a single file of `pipelines` its own name."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == "pipelines" and rest else top


@pytest.fixture(scope="module")
def uses() -> dict[str, set[str]]:
    known = modules(ROOT)
    return {name: set(imports(path.read_text("utf-8"), known)) - {name} for name, path in known.items()}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Some circle of the graph, empty when it has none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_is_in_a_circle(uses: dict[str, set[str]]) -> None:
    assert len(uses) > 150 and "pipelines.run.loop" in uses["pipelines.segment"]
    assert not circle(uses)
    assert circle({**uses, "pipelines.types": {"pipelines.segment"}})  # the check can fail


def test_no_import_climbs(uses: dict[str, set[str]]) -> None:
    climbing = [
        f"{module} imports {used}"
        for module, all_used in uses.items()
        for used in all_used
        if room(used) != room(module) and LEVEL.get(room(used), 0) >= max(LEVEL.get(room(module), 0), 1)
    ]
    assert not climbing
    assert set(LEVEL) <= {room(module) for module in uses}, "a room of the table is gone"


def test_imports_are_found_wherever_they_stand() -> None:
    known = {name: Path() for name in ("a", "a.b", "a.c", "a.d")}
    code = """
import a.b
def f():
    from a import c
if TYPE_CHECKING:
    from a import d
"""
    assert sorted(imports(code, known)) == ["a.b", "a.c"]
