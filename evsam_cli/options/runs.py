"""Options of the verbs that go through a user's images: which, where results go, and how a run goes and is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evsam_cli import progress
from evsam_cli.better import better
from evsam_cli.options import choices, option, path, split
from evsam_cli.options.outputs import OutputOptions
from evsam_cli.results import report
from pipelines.errors import UsageError
from pipelines.limits import MANY, PIXELS
from pipelines.outputs import OUTPUTS
from pipelines.run import RunConfig

if TYPE_CHECKING:
    from pipelines.registry import Row
    from pipelines.run import Summary, Watcher


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="An image, a folder (searched recursively), a glob in quotes, a .txt list of paths or URLs, a URL, "
        "or - for a list on standard input.",
        show_default=False,
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="Folder to write to.", show_default=False, parser=path)
]

Save = Annotated[
    list[str],
    option(
        "Output",
        "--save",
        metavar="KIND,...",
        help=choices("What to write, with commas between kinds.", OUTPUTS),
        offered=OUTPUTS,
    ),
]
Quiet = Annotated[bool, option("Output", "--quiet", "-q", help="Print errors only.")]

Overwrite = Annotated[
    bool, option("Long runs", "--overwrite", help="Start anew although OUT holds a run; its files are replaced.")
]


@dataclass(frozen=True)
class ResumeOptions:
    """What is done about an earlier run in the same folder."""

    resume: Annotated[bool, option("Long runs", "--resume", help="Go on with the run in OUT where it stopped.")] = False
    overwrite: Overwrite = False


@dataclass(frozen=True)
class RunOptions(ResumeOptions):
    """How a run goes and is shown."""

    shard: Annotated[
        str, option("Long runs", "--shard", metavar="I/N", help="Do the I-th of N parts; join them with `evsam merge`.")
    ] = "{}/{}".format(*RunConfig.shard)
    batch: Annotated[
        int | None,
        option(
            "Long runs", "--batch", help="Images handled together.", within=MANY, show_default="what suits the device"
        ),
    ] = None
    max_pixels: Annotated[
        int, option("Long runs", "--max-pixels", help="Refuse larger images: decompression bombs.", within=PIXELS)
    ] = RunConfig.max_pixels
    outputs: OutputOptions = field(default_factory=OutputOptions)
    quiet: Quiet = False
    as_json: Annotated[bool, option("Output", "--json", help="Print one JSON line per image on standard output.")] = (
        False
    )

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

        kinds = split(save)
        if not kinds:
            raise UsageError("--save names nothing to write")
        for kind in kinds:
            OUTPUTS.check(kind)
        return RunConfig(
            sources=tuple(sources),
            output=output,
            save=kinds,
            output_options={**self.outputs.given(kinds), **(output_options or {})},
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
