"""What the verbs that go through a user's images share: how a run goes, how it is shown, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evsam_cli import options, progress, say
from evsam_cli.better import better
from pipelines.errors import UsageError
from pipelines.limits import MANY, PIXELS

if TYPE_CHECKING:
    from pipelines.registry import Row
    from pipelines.run import RunConfig, Summary, Watcher

SHOWN_FAILURES = 20
SHOWN_EMPTY = 5


@dataclass(frozen=True)
class RunOptions:
    """How a run goes and is shown."""

    resume: options.Resume = False
    overwrite: options.Overwrite = False
    shard: Annotated[
        str,
        options.option(
            "Long runs", "--shard", metavar="I/N", help="Do the I-th of N parts; join them with `evsam merge`."
        ),
    ] = "1/1"
    batch: Annotated[
        int | None,
        options.option(
            "Long runs",
            "--batch",
            help="Images handled together.",
            within=MANY,
            show_default="what suits the device",
        ),
    ] = None
    max_pixels: Annotated[
        int,
        options.option("Long runs", "--max-pixels", help="Refuse larger images: decompression bombs.", within=PIXELS),
    ] = 200_000_000
    quiet: options.Quiet = False
    as_json: Annotated[
        bool, options.option("Output", "--json", help="Print one JSON line per image on standard output.")
    ] = False

    def config(
        self,
        sources: list[str],
        output: Path,
        save: list[str],
        *,
        offline: bool,
        output_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> RunConfig:
        """What the pipeline is told of it. Raises UsageError."""
        from pipelines.images.sources import parse_shard
        from pipelines.run import RunConfig

        if not options.split(save):
            raise UsageError("--save names nothing to write")
        return RunConfig(
            sources=tuple(sources),
            output=output,
            save=options.split(save),
            output_options=output_options or {},
            batch=self.batch,
            shard=parse_shard(self.shard),
            max_pixels=self.max_pixels,
            resume=self.resume,
            overwrite=self.overwrite,
            offline=offline or None,
        )

    def show(
        self,
        output: Path,
        run: Callable[[Watcher], Summary],
        models: Mapping[str, Row],
        *,
        also: Sequence[str] = (),
        instead: str = "",
    ) -> None:
        """Run it, showing its progress, and say how it ended; exit with 1 when images failed.

        models, also: see `evsam_cli.better.better`. instead: what takes less where an image takes long, said once.
        """
        with progress.choose(quiet=self.quiet, as_json=self.as_json, instead=instead) as watch:
            summary = run(watch)
        report(summary, output, quiet=self.quiet or self.as_json, then=better(models, output, also=also))


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
