"""Trees of empty files, and the names of the sources in them."""

from __future__ import annotations

from pathlib import Path

from pipelines.images.sources import resolve


def make(*paths: str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*sources: str, **options: Path) -> list[str]:
    return [source.name for source in resolve(sources, **options)]
