"""The rows of `manifest.toml`: which files a name stands for, where they come from, and what they must be."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pipelines.errors import UnknownNameError

MANIFEST = Path(__file__).with_name("manifest.toml")


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """One file. Exactly one of `url` and `bundled` is set; `manifest.toml` says what each field means."""

    name: str
    model: str
    licence: str
    source: str
    url: str | None = None
    bundled: str | None = None
    bytes: int | None = None
    about_bytes: int | None = None
    sha256: str | None = None
    saved_as: str | None = None
    terms: str | None = None
    kind: str | None = None

    @property
    def filename(self) -> str:
        """The file's own name, as its source calls it, unless its URL does not tell."""
        return self.bundled or self.saved_as or PurePosixPath(unquote(urlsplit(self.url or "").path)).name


@cache
def rows() -> tuple[WeightsFile, ...]:
    """Every row, in the order of the manifest."""
    content = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["file"]
    return tuple(WeightsFile(**{key: value for key, value in row.items() if key != "facts"}) for row in content)


def names() -> list[str]:
    """Every name, once, in the order of the manifest."""
    return list(dict.fromkeys(row.name for row in rows()))


def files(name: str) -> tuple[WeightsFile, ...]:
    """The files that `name` stands for, the one to load first. Raises UnknownNameError."""
    found = tuple(row for row in rows() if row.name == name)
    if not found:
        raise UnknownNameError("weights", name, names())
    return found
