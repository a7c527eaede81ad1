"""`evsam doctor`: will it work here?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from evsam_cli import say

STYLES = {"ok": "green", "note": "yellow", "fault": "red"}


EXAMPLES = """
# Look at this machine
evsam doctor

# The same for programs
evsam doctor --json
"""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Report versions, devices, cache and weights, and what will not work. Exits with 2 on a fault."""
    from pipelines.doctor import examine

    findings = list(examine())
    if as_json:
        say.document([asdict(finding) for finding in findings], indent=1)
    else:
        topics = ["", *(finding.topic for finding in findings)]
        say.table(
            [
                (
                    "" if finding.topic == before else finding.topic,
                    (finding.verdict, STYLES[finding.verdict]),
                    finding.text,
                )
                for before, finding in zip(topics, findings, strict=False)
            ]
        )
    if any(finding.verdict == "fault" for finding in findings):
        raise typer.Exit(2)
