"""Options of the verbs that read labels of other tools."""

from __future__ import annotations

from typing import Annotated

from evsam_cli.options import option

ClassNames = Annotated[
    str | None,
    option(
        "Labels",
        "--class-names",
        metavar="NAMES|FILE",
        help="Names of classes that the labels have numbers for, in that order: cat,dog; or a data.yaml or .txt file. "
        "YOLO needs them where no data.yaml and no classes.txt lies beside.",
    ),
]


def parse_class_names(text: str | None) -> tuple[str, ...] | None:
    """What `--class-names` says. Raises UsageError, DataError."""
    from pipelines.labels.classes import parse_names

    return None if text is None else parse_names(text)
