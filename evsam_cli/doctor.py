"""`evsam doctor`: will it work here?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fault": "[red]fault[/]"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Report versions, devices, cache and weights, and what will not work. Exits with 2 on a fault."""
    from pipelines.doctor import examine

    findings = list(examine())
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table("", "", "", show_header=False, box=None)
        topic = None
        for finding in findings:
            table.add_row("" if finding.topic == topic else finding.topic, MARKS[finding.verdict], escape(finding.text))
            topic = finding.topic
        Console().print(table)
    if any(finding.verdict == "fault" for finding in findings):
        raise typer.Exit(2)
