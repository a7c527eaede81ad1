"""What a verb says at its end: how a run went, and scores as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from evsam_cli import say

if TYPE_CHECKING:
    from pipelines.run import Summary

SHOWN_FAILURES = 20
SHOWN_EMPTY = 5


def report(summary: Summary, output: Path, *, quiet: bool, then: str | None = None) -> None:
    """Say how the run ended; exit with 1 when images failed. then: a line to end with."""
    show_notes(summary.notes)
    if not quiet:
        show_empty(summary)
    show_failures(summary.failed)
    if len(summary.failed) > SHOWN_FAILURES:
        say.aside(f"... and {len(summary.failed) - SHOWN_FAILURES} more, listed in {output / 'run.json'}")
    if not quiet:
        counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items())
        speed = summary.info["this_run"]["images_per_second"]
        say.aside(f"{counts} ({speed:.2f} images/s). Results are in {output}")
        if then:
            say.aside(then)
    if summary.failed:
        raise typer.Exit(1)


def show_notes(notes: Sequence[str]) -> None:
    """What a run says beside its results, a line each."""
    for note in notes:
        say.aside(f"note: {note}")


def show_empty(summary: Summary) -> None:
    """Why images are empty, by reason, where they are more than a tenth."""
    total = sum(summary.counts.values())
    if len(summary.empty) * 10 <= total:
        return
    for name, reason in list(summary.empty.items())[:SHOWN_EMPTY]:
        say.aside(f"empty: {name}: {reason}")
    say.aside(f"{len(summary.empty)} of {total} images are empty: run.json says why, image by image")


def show_failures(failed: Mapping[str, str]) -> None:
    """A line for each image that failed, and why, as long as they are few."""
    for name, reason in list(failed.items())[:SHOWN_FAILURES]:
        say.aside(f"failed: {name}: {reason}")


def print_table(rows: Sequence[Sequence[str]], *, names: int) -> None:
    """A header and rows, as wide as they are; names: columns at the left that hold no numbers."""
    say.table(rows[1:], header=rows[0], names=names, wide=True)


def print_values(metrics: Mapping[str, Any]) -> None:
    """One line per value, "-" for one that there is not."""
    for name, value in metrics.items():
        say.result(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {'-' if value is None else value}")


def end(failed: Mapping[str, str], notes: Sequence[str]) -> None:
    """Say what should be known, which images failed, and why; exit with 1 when any failed."""
    show_notes(notes)
    show_failures(failed)
    if failed:
        say.aside(f"{len(failed)} images failed; their objects count as missed")
        raise typer.Exit(1)
