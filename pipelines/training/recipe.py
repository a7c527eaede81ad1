"""A recipe: a training run's configuration as a TOML file, one of the user's or one that comes with evsam."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pipelines.errors import UsageError
from pipelines.files import read_toml
from pipelines.limits import LARGE
from pipelines.printable import brief
from pipelines.training.config import DistillConfig, FinetuneConfig, YoloConfig

Config = TypeVar("Config")
_FOLDERS: dict[type, str] = {FinetuneConfig: "finetune", DistillConfig: "distill", YoloConfig: "detector"}


def recipes(kind: type) -> dict[str, str]:
    """The recipes that come with evsam for a configuration class: name -> TOML text."""
    folder = resources.files("pipelines.training") / "recipes" / _FOLDERS[kind]
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8") for entry in files}


def read_recipe(kind: type[Config], recipe: str, changes: Mapping[str, Any] | None = None) -> Config:
    """A recipe by name (see `recipes`) or the path of a TOML file; `changes` replace its top-level values.

    Raises UsageError for a recipe that does not exist, keys that are not settings, and values that they cannot have,
    DataError for a file that is not TOML.
    """
    known = recipes(kind)
    if recipe not in known and not Path(recipe).is_file():
        raise UsageError(f"no recipe {recipe!r}: name one of {', '.join(known)}, or a TOML file")
    table = tomllib.loads(known[recipe]) if recipe in known else read_toml(Path(recipe), "a recipe")
    config: Config = _parse(kind, {**table, **(changes or {})}, f"recipe {recipe}")
    return config


def _parse(kind: Any, value: Any, where: str) -> Any:
    """`value`, as TOML gives it, as an instance of the type `kind`."""
    if dataclasses.is_dataclass(kind):
        return _parse_table(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        chosen = next(part for part in arguments if part is not type(None))
        return None if value is None else _parse(chosen, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or (arguments[-1] is not ... and len(value) != len(arguments)):
            raise UsageError(f"{where}: expected a list, got {brief(value)}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        return tuple(_parse(part, item, where) for part, item in zip(kinds, value, strict=True))
    if kind is float and type(value) is int and abs(value) < LARGE:
        return float(value)
    if origin is dict and isinstance(value, dict):
        return {name: _parse_option(item, f"{where}, {name}") for name, item in value.items()}
    if type(value) is not kind:
        raise UsageError(f"{where}: expected {kind.__name__}, got {brief(value)}")
    return value


def _parse_option(value: Any, where: str) -> Any:
    """One of another program's settings: text, a number or a truth value, or a list of them."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, str | bool) and not (isinstance(item, int | float) and abs(item) < LARGE):
            raise UsageError(f"{where}: {brief(value)} is no text, number or truth value, nor a list of them")
    return value


def _parse_table(kind: Any, value: Any, where: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected a table, got {brief(value)}")
    hints = typing.get_type_hints(kind)
    unknown = set(value) - set(hints)
    if unknown:
        raise UsageError(f"{where}: unknown setting {', '.join(sorted(unknown))}; known: {', '.join(hints)}")
    fields = {name: _parse(hints[name], item, f"{where}, {name}") for name, item in value.items()}
    needed = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
    if needed - set(fields):
        raise UsageError(f"{where}: {', '.join(sorted(needed - set(fields)))} is missing")
    try:
        return kind(**fields)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
