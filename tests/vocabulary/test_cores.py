"""The cores that may be used: those of the machine, less what a control group takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.cores import usable

ALL = usable(Path("no groups"), Path("none"))


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({}, ALL),
        ({"": "100000 100000"}, 1),
        ({"": "max 100000"}, ALL),
        ({"": "5000 100000"}, 1),
        ({"": "100000000 100000"}, ALL),
        ({"a/b": "max 100000", "a": "90000 100000"}, 1),
        ({"a/b": "torn", "a": "1 0"}, ALL),
        ({"other": "100000 100000"}, ALL),
    ],
)
def test_a_quota_of_any_group_around_counts(limits: dict[str, str], cores: int, tmp_path: Path) -> None:
    for group, limit in limits.items():
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "cpu.max").write_text(f"{limit}\n")
    (tmp_path / "mine").write_text("9:name=systemd:/\n0::/a/b\n")
    assert usable(tmp_path, tmp_path / "mine") == cores


def test_part_of_a_core_is_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "mine").write_text("0::/\n")
    assert usable(tmp_path, tmp_path / "mine") == 3
