"""`evsam benchmark` when something cannot be measured: a cell says why, and the rest goes on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from support.runs import evsam

from pipelines.benchmark.config import BenchmarkConfig
from pipelines.benchmark.cost import Cost
from pipelines.benchmark.measured import Measured
from pipelines.benchmark.report import Report
from pipelines.benchmark.subjects import Subject
from pipelines.benchmark.timing import Failed, Times, in_turn
from pipelines.errors import UsageError

CPU = torch.device("cpu")
QUICK = ("--device", "cpu", "--rounds", 1, "--boxes", 1, "--images", 0, "--no-memory")


def test_what_fails_is_a_cell_and_the_rest_goes_on() -> None:
    def work(fault: Exception | None) -> None:
        ran.append(fault)
        if fault:
            raise fault

    ran: list[Exception | None] = []
    faults = {"cpu": RuntimeError("can't allocate memory: 99 bytes"), "engine": UsageError("16 at most"), "fine": None}
    got = in_turn({name: partial(work, fault) for name, fault in faults.items()}, rounds=2, device=CPU)
    assert (got["cpu"], got["engine"]) == (Failed("out of memory"), Failed("16 at most"))
    assert len(got["fine"].seconds) == 2 and len(ran) == 5
    with pytest.raises(ZeroDivisionError):
        in_turn({"bug": partial(work, ZeroDivisionError())}, rounds=1, device=CPU)


def test_a_batch_that_does_not_fit_is_reported_and_the_rest_measured(tmp_path: Path) -> None:
    batches = ("--batch", "1,100000000")  # 300 TB
    printed, _ = evsam(
        "benchmark", "-o", tmp_path, *QUICK, "--random-weights", *batches, "--accuracy", "evsam-starter=1"
    )
    (row,) = json.loads((tmp_path / "benchmark.json").read_text())["measured"]
    assert row["encoder"]["100000000"] == {"failed": "out of memory"}
    assert row["encoder"]["1"]["median"] > 0 and row["boxes"]["1"]["median"] > 0
    assert "out of memory" in " ".join(printed.split())
    assert "| out of memory |" in (tmp_path / "benchmark.md").read_text()
    assert (tmp_path / "accuracy.png").exists()


@pytest.mark.parametrize("failed", [0, 1])
def test_times_are_held_against_a_first_row_that_has_some(failed: int, tmp_path: Path) -> None:
    outcomes = [Failed("out of memory"), Times((2.0,), None)]
    pair = outcomes if failed == 0 else outcomes[::-1]
    rows = [
        Measured(Subject("evsam-starter", "torch", precision), Cost(1, 1), {8: one}, {5: one}, {}, {8: one}, None, None)
        for precision, one in zip(("fp32", "bf16"), pair, strict=True)
    ]
    report = Report(BenchmarkConfig(boxes=(5,)), rows, {})
    header, *cells = report.rows()
    assert cells[failed].count("out of memory") == 4
    assert cells[1 - failed][header.index("images/s")] == "4.00"
    ratios = [row["encoder"][8].get("times_as_fast_as_first") for row in report.as_json()["measured"]]
    assert ratios == ([None, None] if failed == 0 else [1, None])
    report.write(tmp_path)
