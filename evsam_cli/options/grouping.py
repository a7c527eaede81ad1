"""Groups of options: a verb takes a dataclass, its user an option for each of the dataclass's fields."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb as Typer is to see it: where it takes a group, an option for each field, in the order of the fields.

    A group is a dataclass whose fields are annotated options with defaults.
    """
    types = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in types.items() if is_dataclass(kind)}
    options: dict[str, tuple[Any, Any]] = {}
    for name, parameter in signature(verb).parameters.items():
        if name in groups:
            of_group = get_type_hints(groups[name], include_extras=True)
            options |= {field.name: (of_group[field.name], field.default) for field in fields(groups[name])}
        else:
            options[name] = types[name], parameter.default

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        verb(**values)

    command.__annotations__ = {name: kind for name, (kind, _) in options.items()}
    command.__dict__["__signature__"] = Signature(
        [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, (kind, default) in options.items()
        ]
    )
    return command
