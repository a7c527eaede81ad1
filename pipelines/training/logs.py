"""What a person sees of a training run: one progress line on a terminal, plain lines elsewhere, TensorBoard, JSONL."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from pipelines.files import make_folder, nulls, reading, to_json, write_text
from pipelines.notes import counted_images
from pipelines.printable import printable


class TrainingLog:
    """Writes `metrics.jsonl` and `tensorboard/` in the run's folder. `enabled`: False on all devices but the first."""

    def __init__(self, folder: Path, name: str, first: int, last: int, *, enabled: bool) -> None:
        self._enabled = enabled
        self._kept: defaultdict[str, list[float]] = defaultdict(list)
        self._told: dict[str, dict[str, None]] = {}
        if not enabled:
            return
        make_folder(folder)
        self._last, self._begun = last, time.monotonic()
        _cut(folder / "metrics.jsonl", first)
        self._file: IO[str] = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1)
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            redirect_stdout=False,  # a command line looks after what others print
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(name, total=last, completed=first, note="")

    def __enter__(self) -> TrainingLog:
        if self._enabled:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled:
            self._progress.stop()
            for note, names in self._told.items():
                if len(names) > 1:
                    self._say(note, list(names))
            self._board.close()
            self._file.close()

    def tell(self, told: list[tuple[str, str]]) -> None:
        """Take notes out, each with what it is of: said when it first comes up, and at the end of how many it was."""
        for note, name in told:
            if note not in self._told and self._enabled:
                self._say(note, [name])
            self._told.setdefault(note, {})[name] = None
        told.clear()

    def _say(self, note: str, names: Sequence[str]) -> None:
        line = printable(f"note: {note} ({counted_images(names)})")
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def add(self, values: dict[str, float]) -> None:
        """Keep one step's losses for the next mean."""
        for name, value in values.items():
            self._kept[name].append(value)

    def write_mean(self, step: int) -> None:
        """Write the mean of what was added since the last time."""
        self.write(step, "train", {name: sum(values) / len(values) for name, values in self._kept.items()})
        self._kept.clear()

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Write figures of `kind`, train or validation, after `step` steps."""
        if not self._enabled:
            return
        seconds = round(time.monotonic() - self._begun, 1)
        line = {"step": step, "kind": kind, "seconds": seconds, **nulls(values)}
        self._file.write(to_json(line, ascii_only=True) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)
        note = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._console.is_terminal:
            self._progress.update(self._task, completed=step, note=note)
        else:
            self._console.print(f"step {step}/{self._last}  {seconds:.0f} s  {note}", soft_wrap=True, highlight=False)


def _cut(path: Path, steps: int) -> None:
    """Drop the lines of an interrupted run that lie behind its checkpoint, or that were half written."""
    if not path.exists():
        return
    with reading(path, "the metrics of a training run"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= steps]
    if len(kept) < len(lines):
        write_text(path, "".join(kept))
