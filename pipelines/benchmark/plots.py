"""A benchmark's pictures, each as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from pipelines.benchmark.measured import Measured
from pipelines.benchmark.timing import Times
from pipelines.files import replacing


def plot_boxes(measured: Sequence[Measured], path: Path) -> None:
    """Time against the number of boxes, the image encoded before; bars from the fastest to the slowest round."""
    figure, axes = _axes("boxes of one encoded image", "ms")
    for one in measured:
        times = {count: each for count, each in one.boxes.items() if isinstance(each, Times)}
        medians = [1000 * each.median for each in times.values()]
        below = [1000 * (each.median - min(each.seconds)) for each in times.values()]
        above = [1000 * (max(each.seconds) - each.median) for each in times.values()]
        axes.errorbar(list(times), medians, (below, above), marker="o", capsize=3, label=one.subject.name)
    axes.set_xticks([0, *measured[0].boxes])
    axes.set_ylim(bottom=0)
    _save(figure, axes, path)


def plot_accuracy(measured: Sequence[Measured], path: Path) -> None:
    """Accuracy against the encoder's throughput at the largest batch, which is on a logarithmic scale."""
    batch = max(measured[0].encoder)
    figure, axes = _axes(f"encoder, images/s at batch {batch}", "accuracy")
    for one in measured:
        times, accuracy = one.encoder[batch], one.subject.accuracy
        if accuracy is not None and isinstance(times, Times):
            axes.plot(batch / times.median, accuracy, marker="o", linestyle="none", label=one.subject.name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(0.25)
    _save(figure, axes, path)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize="small")
    for suffix in (".png", ".svg"):
        with replacing(path.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, dpi=150)
