"""The table of prompts and SAMs: its columns, and as CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from pipelines.evaluation.score import CellScore
from pipelines.files import write_json, write_text
from pipelines.printable import printable

COLUMNS = {
    "mIoU": ("all", "large", "medium", "small"),
    "boundary mIoU": ("all",),
    "segm": ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf", "AR1000"),
    "bbox": ("AP",),
    "boundary": ("AP",),
    "class-agnostic": ("AR100", "AR1000"),
}
"""What tables show of each family of metrics; `scores.json` has all."""
PERCENT = ("mIoU", "boundary mIoU")
"""Families that are from 0 to 100 already; the others, from 0 to 1, are shown times 100."""


def tables(scores: Sequence[CellScore]) -> list[list[CellScore]]:
    """Scores that can be compared, together: of prompted objects, of detections by class, and of any class."""
    groups: dict[tuple[bool, bool], list[CellScore]] = {}
    for score in scores:
        groups.setdefault((score.scored.of_detections, score.any_class), []).append(score)
    return [groups[kind] for kind in sorted(groups)]


def shown_columns(scores: Sequence[CellScore]) -> list[tuple[str, str]]:
    """(family, name) of the columns in which at least one row has something, in the order of `COLUMNS`."""
    return [
        (family, name)
        for family, names in COLUMNS.items()
        for name in names
        if any(name in score.scored.metrics.get(family, {}) for score in scores)
    ]


def percent(score: CellScore, family: str, name: str) -> float | None:
    """A metric from 0 to 100; None where it has no value."""
    value = score.scored.metrics.get(family, {}).get(name)
    return value if value is None or family in PERCENT else 100 * value


def text_rows(scores: Sequence[CellScore], digits: int = 1) -> list[list[str]]:
    """A header and one row per score, as text, metrics in percent."""
    columns = shown_columns(scores)
    rows = [["prompt", "SAM", *(f"{family} {name}" for family, name in columns), "images/s"]]
    for score in scores:
        values = [percent(score, *column) for column in columns]
        cells = ["-" if value is None else f"{value:.{digits}f}" for value in values]
        speed = score.speed.get("per_second")
        prompt = f"{score.prompt} (any class)" if score.any_class else score.prompt
        rows.append([prompt, score.sam or "-", *cells, "-" if speed is None else f"{speed:.2f}"])
    return rows


def write_matrix(folder: Path, scores: Sequence[CellScore]) -> None:
    """`matrix.csv` and `matrix.tex` in percent; `matrix.json` with every metric on its own scale."""
    write_text(folder / "matrix.csv", as_csv(text_rows(scores, digits=3)))
    rows = [
        {"prompt": s.prompt, "sam": s.sam, "metrics": s.scored.metrics, "speed": s.speed, "folder": s.name}
        for s in scores
    ]
    write_json(folder / "matrix.json", rows)
    write_text(folder / "matrix.tex", latex(text_rows(scores), names=2))


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV, a line each. A name that a spreadsheet would take for a formula and compute has a ' before it."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([[_no_formula(printable(cell)) for cell in row] for row in rows])
    return table.getvalue()


def _no_formula(text: str) -> str:
    number = re.fullmatch(r"-|[+-]?[0-9.]+", text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not number else text


def latex(rows: Sequence[Sequence[str]], *, names: int) -> str:
    """A header and rows as a LaTeX table; names: columns at the left that hold no numbers."""
    header, *body = [[_escape(cell) for cell in row] for row in rows]
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{'l' * names}{'r' * (len(header) - names)}}}",
        r"\toprule",
        rf"{' & '.join(header)} \\",
        r"\midrule",
        *(rf"{' & '.join(row)} \\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


_SPECIAL = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(sign, sign) for sign in printable(text))
