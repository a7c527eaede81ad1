"""`evsam merge`: join the shards of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evsam_cli.options import path
from evsam_cli.options.runs import Output, Overwrite, Quiet
from evsam_cli.results import report

EXAMPLES = """
# Two parts, perhaps on two machines
evsam segment photos/ -o part-1 --shard 1/2
evsam segment photos/ -o part-2 --shard 2/2

# Join them
evsam merge part-1 part-2 -o all
"""


def merge(
    parts: Annotated[
        list[Path],
        typer.Argument(metavar="PART...", help="Output folders of the shards.", show_default=False, parser=path),
    ],
    output: Output,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Join the parts of a run made with --shard into one folder, as if it had been one run."""
    from pipelines.run.merge import merge as join

    report(join(parts, output, overwrite=overwrite), output, quiet=quiet)
