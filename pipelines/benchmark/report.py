"""A benchmark's result, and its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pipelines import run_info
from pipelines.benchmark.config import BenchmarkConfig
from pipelines.benchmark.cost import REFERENCE, cost_of
from pipelines.benchmark.measured import Measured
from pipelines.benchmark.subjects import DRAWN, Subject
from pipelines.benchmark.table import NAMES, legend, text_rows
from pipelines.benchmark.timing import Failed, Outcome, Times
from pipelines.files import write_json, write_text, writing
from pipelines.printable import printable

RANDOM = (
    "Random weights ({}): the networks take the time they always take, but their masks mean nothing. Those of boxes "
    "are ragged and fill the picture, so cutting them out costs the most it can; segment everything keeps next to none."
)
PROCESSOR = "Seconds are those of the processor, all threads together, which other work on the machine disturbs least."
ONE_BY_ONE = "Each SAM was measured in a process of its own, one after another, and peak memory is that process's."


@dataclass(frozen=True)
class Report:
    """measured: in the order of the table; the first row is what others are held against. left_out: why."""

    config: BenchmarkConfig
    measured: Sequence[Measured]
    left_out: Mapping[Subject, str]
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def rows(self) -> list[list[str]]:
        """The table: a header, and a row of text per subject."""
        return text_rows(self.measured)

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers must know."""
        drawn = dict.fromkeys(one.subject.sam for one in self.measured if one.subject.kind == DRAWN)
        said = {
            legend(self.rows()[0]): True,
            RANDOM.format(", ".join(drawn)): bool(drawn),
            PROCESSOR: self.config.processor_time,
            ONE_BY_ONE: self.config.one_by_one,
        }
        left_out = [f"Left out: {subject.name}: {reason}" for subject, reason in self.left_out.items()]
        return [*(text for text, holds in said.items() if holds), *left_out]

    def write(self, folder: Path) -> None:
        """`benchmark.json`, `benchmark.md` and plots. Raises SetupError when the folder cannot be written to."""
        from pipelines.benchmark.plots import plot_accuracy, plot_boxes

        with writing(folder):
            write_json(folder / "benchmark.json", self.as_json())
            write_text(folder / "benchmark.md", self.as_markdown())
            if self.config.boxes:
                plot_boxes(self.measured, folder / "boxes")
            if self.config.accuracy and self.config.batches:
                plot_accuracy(self.measured, folder / "accuracy")

    def as_json(self) -> dict[str, Any]:
        """All there is, every single time included, in seconds and MiB."""
        photo = self.config.photo
        return {
            "date": self.date,
            "settings": asdict(self.config) | {"photo": photo.name if photo else "bus.jpg of ultralytics"},
            "machine": run_info.machine(self.config.device),
            "versions": run_info.versions(),
            "notes": self.notes,
            "measured": [self._describe(one) for one in self.measured],
        }

    def _describe(self, one: Measured) -> dict[str, Any]:
        subject, first = one.subject, self.measured[0]
        return {
            "sam": subject.sam,
            "backend": subject.backend,
            "precision": subject.precision,
            "weights": subject.kind,
            "parameters": one.cost.parameters,
            "macs": one.cost.macs,
            "efficient_error_rate": one.cost.error_rate(cost_of(REFERENCE)),
            "accuracy": subject.accuracy,
            "encoder": _outcomes(one.encoder, first.encoder, _images_per_second),
            "boxes": _outcomes(one.boxes, first.boxes),
            "everything": _outcomes(one.everything, first.everything, lambda _, times: {"masks": times.result}),
            "folder": _outcomes(one.folder, first.folder, _images_per_second),
            "agreement": asdict(one.agreement) if one.agreement else None,
            "peak_memory_mib": asdict(one.memory) if one.memory else None,
        }

    def as_markdown(self) -> str:
        """Date, machine, versions, the table and its notes."""
        machine = run_info.machine(self.config.device)
        where = f"{machine.get('gpu', machine['processor'])}, {machine['threads']} threads"
        versions = ", ".join(f"{name} {version}" for name, version in run_info.versions().items())
        header, *rows = self.rows()
        ruler = ["---"] * NAMES + ["---:"] * (len(header) - NAMES)
        table = "\n".join(f"| {' | '.join(map(_in_table, row))} |" for row in [header, ruler, *rows])
        return "\n\n".join([f"{self.date[:10]}, {where}; {versions}.", table, *map(printable, self.notes)]) + "\n"


def _in_table(text: str) -> str:
    return printable(text).replace("|", "\\|")


def _outcomes(
    ours: Mapping[int, Outcome[Any]],
    firsts: Mapping[int, Outcome[Any]],
    more: Callable[[int, Times[Any]], dict[str, Any]] = lambda _, times: {},
) -> dict[int, dict[str, Any]]:
    """By kind. more: what is said, given kind and times, beside the times."""
    return {kind: _outcome(ours[kind], firsts[kind], partial(more, kind)) for kind in ours}


def _outcome(
    outcome: Outcome[Any], first: Outcome[Any], more: Callable[[Times[Any]], dict[str, Any]]
) -> dict[str, Any]:
    if isinstance(outcome, Failed):
        return {"failed": outcome.reason}
    ratio = outcome.faster_than(first) if isinstance(first, Times) else None
    return {"seconds": outcome.seconds, "median": outcome.median, "times_as_fast_as_first": ratio} | more(outcome)


def _images_per_second(images: int, times: Times[Any]) -> dict[str, Any]:
    return {"images_per_second": images / times.median}
