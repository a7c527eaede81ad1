"""Tables of what can be chosen by name. A row is data until it is loaded, so listing imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from pipelines.errors import SetupError, UnknownNameError


@dataclass(frozen=True)
class Row:
    """One choice of a registry.

    name: what the user types. target: `"module:attribute"`, imported only by `load`. summary: one line for
    `--help` and listings. weights: the row's key in `weights/manifest.toml`, if it needs any. extra: the pip extra
    that brings the row's own dependencies. options: fixed keyword arguments that tell rows with one target apart.
    better: the row that a bundled model's user may want next.
    """

    name: str
    target: str
    summary: str
    weights: str | None = None
    extra: str | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    better: str | None = None

    def load(self) -> Any:
        """Import and return the row's attribute. Raises SetupError when its extra is not installed."""
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if self.extra is None or (error.name or "").startswith("pipelines"):
                raise
            raise SetupError(
                f"{self.name} needs the package {error.name!r}: install it with `pip install 'evsam[{self.extra}]'`"
            ) from error


R = TypeVar("R", bound=Row)


class Registry(Mapping[str, R]):
    """An ordered table of rows, whose unknown names raise an error that lists the known ones."""

    def __init__(self, kind: str, rows: Iterable[R]) -> None:
        self.kind = kind
        self._rows: dict[str, R] = {}
        for row in rows:
            self.add(row)

    def add(self, row: R) -> None:
        """Offer a row of your own, after the others: before `evsam_cli.main` is imported, whose help lists the names.

        See CONTRIBUTING.md. Raises ValueError for a name that there is already.
        """
        if row.name in self._rows:
            raise ValueError(f"two {self.kind} rows are named {row.name!r}")
        self._rows[row.name] = row

    def __getitem__(self, name: str) -> R:
        if name not in self._rows:
            raise UnknownNameError(self.kind, name, list(self._rows))
        return self._rows[name]

    def check(self, name: str) -> None:
        """Raise UnknownNameError, which lists the names there are, unless there is a row of this name."""
        self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
