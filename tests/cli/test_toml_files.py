"""Recipes and ontologies as strangers may write them: whatever they hold, one line that names the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from support.runs import evsam

from pipelines.detectors.text.phrases import parse_phrases
from pipelines.errors import DataError, EvsamError, UsageError
from pipelines.printable import brief
from pipelines.training.config import DistillConfig, FinetuneConfig, YoloConfig
from pipelines.training.recipe import read_recipe, recipes

BROKEN = {
    "deep": "a = " + "[" * 100_000 + "]" * 100_000,
    "tables": "a = " + "{b = " * 5_000 + "1" + "}" * 5_000,
    "digits": "x = " + "9" * 5_000,
    "float": "x = 1e",
    "date": "x = 2021-13-45",
    "text": "<html>",
    "twice": "a = 1\na = 2",
    "latin": "name = 'größer'",
    "sixteen": "a = 1",
}
ENCODINGS = {"latin": "latin-1", "sixteen": "utf-16"}


@pytest.mark.parametrize("what", BROKEN)
def test_files_that_are_no_toml(what: str, here: Path) -> None:
    Path("mine.toml").write_text(BROKEN[what], encoding=ENCODINGS.get(what, "utf-8"))
    for command in (
        ("train", "finetune", "-o", "run", "--recipe", "mine.toml", "--data", "photos"),
        ("train", "distill", "-o", "run", "--recipe", "mine.toml", "--data", "photos"),
        ("train", "detector", "-o", "run", "--recipe", "mine.toml", "--data", "photos"),
        ("text", here, "-o", "run", "--ontology", "mine.toml"),
    ):
        _, err = evsam(*command, code=2)
        assert err.startswith("evsam: mine.toml is not ") and err.count("\n") == 1 and len(err) < 300
    assert not Path("run").exists()


DOTTED = "x" + ".x" * 3_000
VALUES = [
    "9" * 30,
    "-1" + "0" * 30,
    "0x" + "f" * 6_000,
    "1e300",
    "nan",
    "inf",
    "-inf",
    "''",
    "[]",
    "[[[[[[1]]]]]]",
    "{}",
    "true",
    "2024-01-01",
]
CONFIGS = {FinetuneConfig: "l0", DistillConfig: "distill", YoloConfig: "objects"}


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_values_that_no_setting_can_have(kind: type, tmp_path: Path) -> None:
    """Every setting of a recipe, in its tables too, with every value: nothing but an EvsamError, and no number that
    something will choke on."""
    text = recipes(kind)[CONFIGS[kind]]
    config: Any = read_recipe(kind, CONFIGS[kind])
    path = tmp_path / "mine.toml"
    settings = [(field.name, "") for field in dataclasses.fields(kind)]
    for field in dataclasses.fields(kind):
        part = getattr(config, field.name)
        if dataclasses.is_dataclass(part):
            settings += [(inner.name, field.name) for inner in dataclasses.fields(part)]
    assert len(settings) > 8
    for name, table in settings:
        for value in [*VALUES, f"{{{DOTTED} = 1}}"]:
            path.write_text(_with(text, table, name, value))
            try:
                read = read_recipe(kind, str(path))
            except EvsamError as error:
                assert str(error).startswith((f"recipe {path}", f"{path} is not a recipe")) and len(str(error)) < 900
            else:
                kept = getattr(getattr(read, table) if table else read, name)
                assert not isinstance(kept, float | int) or abs(kept) < 1e10, (name, kept)


def _with(text: str, table: str, name: str, value: str) -> str:
    """The recipe with one setting replaced."""
    lines, inside = [], ""
    for line in text.splitlines():
        if line.startswith("["):
            inside = line.strip("[]").strip() if "#" not in line else line.split("]")[0].strip("[")
        if not (inside == table and line.split("=")[0].strip() == name) and inside.split(".")[0] != name:
            lines.append(line)
    setting = f"{name} = {value}"
    if not table:
        return "\n".join([setting, *lines])
    at = next((index for index, line in enumerate(lines) if line.startswith(f"[{table}]")), None)
    if at is None:
        return "\n".join([*lines, f"[{table}]", setting])
    return "\n".join([*lines[: at + 1], setting, *lines[at + 1 :]])


@pytest.mark.parametrize("value", [*VALUES, f"{{{DOTTED} = 1}}", f"{{id = 1, category = {{{DOTTED} = 1}}}}"])
@pytest.mark.parametrize("field", ["", "id", "category", "threshold"])
def test_ontologies(field: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[cat]\n{field} = {value}" if field else f"cat = {value}")
    try:
        (phrase,) = parse_phrases((), str(path))
    except (UsageError, DataError) as error:
        assert len(str(error)) < 300 and "\n" not in str(error)
    else:
        assert (value in ("{}", "''") and phrase.text == "cat") or field == "category"


def test_ids_of_an_ontology_are_whole_numbers_that_files_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[cat]\nid = {2**63 - 1}\n[dog]\nid = 0")
    assert [phrase.category.id for phrase in parse_phrases((), str(path))] == [2**63 - 1, 0]
    for id in (2**63, -1):
        path.write_text(f"[cat]\nid = {id}")
        with pytest.raises(UsageError, match=r"the id of 'cat' is -?\d+, not from 0 to"):
            parse_phrases((), str(path))


def test_phrases_that_are_no_text() -> None:
    """As a command line gives bytes that are not UTF-8."""
    for texts, ontology in ((["cat", "\udcff"], None), ([], "cat=\udcff")):
        with pytest.raises(UsageError, match=r"'\\udcff' is not text in UTF-8|the category '\\udcff' is not text"):
            parse_phrases(texts, ontology)


def test_values_in_messages_are_brief() -> None:
    deep: dict[str, Any] = {}
    for _ in range(20_000):
        deep = {"a": deep}
    for value in (deep, 16**6_000, "x" * 1000, [1] * 1000):
        assert len(brief(value)) <= 60
    assert brief("\x1b") == r"'\x1b'" and brief(1.5) == "1.5"
    while deep:
        deep = deep["a"]
