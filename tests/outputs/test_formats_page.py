"""docs/formats.md and the README say what the table of outputs has."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.outputs import OUTPUTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/formats.md").read_text("utf-8")


def test_the_page_has_every_kind_with_its_files() -> None:
    table = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*?) \|", PAGE, re.MULTILINE))
    assert list(table) == list(OUTPUTS)
    for name, files in table.items():
        said = {each.rstrip("/") for each in re.findall(r"`([^`]+)`", files)}
        assert set(OUTPUTS[name].files) <= said, name


def test_the_page_tells_every_option_of_a_kind() -> None:
    for row in OUTPUTS.values():
        assert all(f"`{flag}" in PAGE for flag in row.takes), row.name


def test_the_readme_names_every_kind() -> None:
    kinds = (ROOT / "README.md").read_text("utf-8").partition("| kind | what |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", kinds)) >= set(OUTPUTS)
