"""Every model that a row stands for: SAMs, detectors and text detectors, with what is known of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.detectors import DETECTORS
from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.errors import UnknownNameError
from pipelines.registry import Registry, Row
from pipelines.sam import SAMS
from weights import manifest
from weights.facts import Facts, Published, facts
from weights.manifest import WeightsFile

KINDS: dict[str, Registry[Any]] = {"SAM": SAMS, "detector": DETECTORS, "text detector": TEXT_DETECTORS}
"""What a model is, and the table of such rows."""


@dataclass(frozen=True)
class Model:
    """kind: a key of KINDS. facts: None of a row of the user's own; files: its weights, none for one without a manifest
    entry."""

    kind: str
    row: Row
    facts: Facts | None
    files: tuple[WeightsFile, ...]

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def published(self) -> tuple[Published, ...]:
        return self.facts.published if self.facts else ()

    def best(self, start: str) -> Published | None:
        """The first published figure whose name starts so."""
        return next((each for each in self.published if each.figure.startswith(start)), None)

    def ours(self, entry: Published) -> str | None:
        """Our own count of a published figure, in as many digits; None where we have none, such as of an accuracy."""
        count = self.facts.ours(entry.figure) if self.facts else None
        return None if count is None else f"{count:.{len(entry.value.partition('.')[2])}f}"

    @property
    def side(self) -> str:
        """Of its input, in pixels, as 1024 or 800-1333."""
        return "-".join(map(str, sorted(set(self.facts.input)))) if self.facts else "-"


def list_models() -> Iterator[Model]:
    """All of them, kind by kind, in the order of their tables."""
    for kind, rows in KINDS.items():
        for row in rows.values():
            known = row.weights is not None
            yield Model(kind, row, facts(row.weights) if known else None, manifest.files(row.weights) if known else ())


def model(name: str) -> Model:
    """The one of a name. Raises UnknownNameError."""
    found = {each.name: each for each in list_models()}
    if name not in found:
        raise UnknownNameError("model", name, list(found))
    return found[name]
