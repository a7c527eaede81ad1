"""`evsam compare`: is one run better than another?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evsam_cli import say
from evsam_cli.options import option, path
from evsam_cli.results import show_notes
from pipelines.evaluation import protocols
from pipelines.limits import DRAWS, SEED, SHARE

EXAMPLES = """
# Is L1 better than L0? Two cells of one evaluation
evsam compare eval/gt-box+efficientvit-sam-l0 eval/gt-box+efficientvit-sam-l1

# For programs
evsam compare before/gt-box+evsam-starter after/gt-box+evsam-starter --json
"""


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="A folder with a scores.json.", show_default=False, parser=path)
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False, parser=path)],
    draws: Annotated[
        int, option(None, "--draws", help="How often the images are drawn anew.", within=DRAWS)
    ] = protocols.DRAWS,
    confidence: Annotated[
        float, option(None, "--confidence", help="Of the interval, the ends excluded.", within=SHARE)
    ] = protocols.CONFIDENCE,
    seed: Annotated[int, option(None, "--seed", help="Of the draws.", within=SEED)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two scores of the same images: the difference B - A and its confidence interval.

    A paired bootstrap: the images are drawn anew many times, the same for both, and both are scored on each draw. Where
    the interval leaves 0 out, the difference is more than the choice of images.
    """
    from pipelines.evaluation.compare import compare_runs

    result = compare_runs(first, second, draws=draws, confidence=confidence, seed=seed)
    show_notes(result.notes)
    if as_json:
        say.document(asdict(result), indent=1)
        return
    rows = []
    for one in result.differences:
        scale = 1 if "mIoU" in one.metric else 100
        first_value, second_value, gap, low, high = (
            scale * value for value in (one.first, one.second, one.difference, one.low, one.high)
        )
        cells = (
            one.metric,
            f"{first_value:.2f}",
            f"{second_value:.2f}",
            f"{gap:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            f"{100 * one.better:.0f} %",
        )
        rows.append([(cell, "bold" if one.significant else "") for cell in cells])
    say.result(f"A: {result.first}")
    say.result(f"B: {result.second}")
    say.table(rows, header=("", "A", "B", "B - A", f"{100 * confidence:g} % interval", "B better"), names=1)
    say.result(f"In percent; {draws} draws of the images, seed {seed}; bold: the interval leaves 0 out.")
