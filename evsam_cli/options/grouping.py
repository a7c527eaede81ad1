"""Groups of options: a verb takes a dataclass, its user an option for each of the dataclass's fields."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb as Typer is to see it: where it takes a group, an option for each field, in the order of the fields.

    A group is a dataclass whose fields are annotated options with defaults, or groups themselves.
    """
    types = get_type_hints(verb, include_extras=True)
    options: dict[str, tuple[Any, Any]] = {}
    for name, parameter in signature(verb).parameters.items():
        options |= _options(name, types[name], parameter.default)

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        verb(**{name: _taken(name, kind, values) for name, kind in types.items() if name != "return"})

    command.__annotations__ = {name: kind for name, (kind, _) in options.items()}
    command.__dict__["__signature__"] = Signature(
        [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, (kind, default) in options.items()
        ]
    )
    return command


def _options(name: str, kind: Any, default: Any) -> dict[str, tuple[Any, Any]]:
    """The options that stand for a parameter, or for a field of a group: name -> type and default."""
    if not is_dataclass(kind):
        return {name: (kind, default)}
    types, options = get_type_hints(kind, include_extras=True), dict[str, tuple[Any, Any]]()
    for field in fields(kind):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        options |= _options(field.name, types[field.name], default)
    return options


def _taken(name: str, kind: Any, values: dict[str, Any]) -> Any:
    """What becomes of the options' values: taken out of them, the groups filled."""
    if not is_dataclass(kind):
        return values.pop(name)
    types: Any = get_type_hints(kind, include_extras=True)
    group: Any = kind
    return group(**{field.name: _taken(field.name, types[field.name], values) for field in fields(kind)})
