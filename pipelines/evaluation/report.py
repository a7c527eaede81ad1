"""`report.html`: one file that a browser shows without a network: table, charts, pictures, stamps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pipelines.evaluation import plots
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.detection import RECALLS
from pipelines.evaluation.loop import STAGES
from pipelines.evaluation.matrix import percent, tables, text_rows
from pipelines.evaluation.miou import ObjectScore
from pipelines.evaluation.photos import Photos
from pipelines.evaluation.pictures import AGREES, MISSING, SURPLUS, picture_urls
from pipelines.evaluation.score import CellScore
from pipelines.files import nulls, to_json, write_text
from pipelines.printable import printable_lines

SHOWN = 20
"""Worst objects shown of each cell, and best."""
_CLASSES = 40
"""Classes charted; of more, half of these from either end."""
_BINS = 20
_CURVES = {"IoU 0.50": 0, "0.60": 2, "0.70": 4, "0.75": 5, "0.80": 6, "0.90": 8, "0.95": 9}


@dataclass(frozen=True)
class Chart:
    """A drawing with its title and, below it, a note."""

    title: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """An object as the page shows it. url: empty when its image could not be read."""

    url: str
    category: str
    iou: str
    where: str


@dataclass(frozen=True)
class Section:
    """One cell on the page. key: its place, for links."""

    key: str
    name: str
    headline: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    charts: Sequence[Chart]
    worst: Sequence[Picture]
    best: Sequence[Picture]
    speed: str
    failed: Sequence[tuple[str, str]]
    stamp: str


def write_report(path: Path, truth: GroundTruth, scores: Sequence[CellScore], photos: Photos | None) -> None:
    """Write the page. photos: None for a page without pictures."""
    sections = [_section(f"cell-{index}", truth, score, photos) for index, score in enumerate(scores)]
    loader = jinja2.PackageLoader("pipelines.evaluation", ".")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    page = environment.get_template("report.html").render(
        tables=_tables(scores, sections),
        together=_together(scores),
        sections=sections,
        colours={"mask and truth agree": AGREES, "missing": MISSING, "too much": SURPLUS},
        data_set=scores[0].stamp["data_set"],
        protocol=scores[0].stamp["protocol"],
    )
    write_text(path, page)


def _shown(value: Any) -> Any:
    """Text of a file's, without what would reorder the page's letters or hide among them."""
    return printable_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@dataclass(frozen=True)
class Table:
    """rows: the key of its section, and each cell with whether it is the best of several in its column."""

    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, bool]]]]


def _tables(scores: Sequence[CellScore], sections: Sequence[Section]) -> list[Table]:
    """One table per group of `matrix.tables`."""
    keys = {score.name: section.key for score, section in zip(scores, sections, strict=True)}
    found = []
    for group in tables(scores):
        header, *body = text_rows(group)
        columns = list(zip(*body, strict=True))
        marked = [
            [(cell, index > 1 and _is_best(cell, columns[index])) for index, cell in enumerate(row)] for row in body
        ]
        found.append(Table(header, [(keys[score.name], row) for score, row in zip(group, marked, strict=True)]))
    return found


def _is_best(cell: str, column: Sequence[str]) -> bool:
    values = [float(other) for other in column if other != "-"]
    return cell != "-" and min(values) < float(cell) == max(values)


def _together(scores: Sequence[CellScore]) -> Chart | None:
    """The precision-recall curves of all cells with detections in one chart, when there are several."""
    curves = {
        score.name: (RECALLS.tolist(), np.nan_to_num(score.scored.curves.mean(0)).tolist())
        for score in scores
        if score.scored.curves is not None
    }
    if len(curves) < 2:
        return None
    svg = plots.line_chart(curves, x="recall", y="precision")
    return Chart("Precision and recall", Markup(svg), "mean over classes and IoU 0.50:0.95")


def _section(key: str, truth: GroundTruth, score: CellScore, photos: Photos | None) -> Section:
    names = truth.category_names()
    ranked = sorted(score.scored.objects, key=lambda one: (one.iou, -one.object.area))
    shown = min(SHOWN, (len(ranked) + 1) // 2)
    worst, best = ranked[:shown], sorted(ranked, key=lambda one: (-one.iou, -one.object.area))[:shown]
    urls = picture_urls(truth, photos, [*worst, *best]) if photos and score.scored.of_masks else {}

    def pictures(objects: Sequence[ObjectScore]) -> list[Picture]:
        found = []
        for one in objects:
            crowd = " (crowd)" if one.object.crowd else ""
            where = f"{truth.images[one.image_id].name}, annotation {one.object.id}"
            category = names[one.object.category_id] + crowd
            found.append(Picture(urls.get(one.object.id, ""), category, f"{100 * one.iou:.1f}", where))
        return found

    return Section(
        key=key,
        name=f"{score.prompt} + {score.sam}" if score.sam else score.prompt,
        headline=_headline(score),
        charts=_charts(score, names, _counted(truth, score)),
        worst=pictures(worst) if urls else [],
        best=pictures(best) if urls else [],
        speed=_speed(score.speed),
        failed=sorted(score.stamp["failed_images"].items()),
        stamp=to_json(nulls(score.stamp), indent=1),
    )


def _headline(score: CellScore) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    """Every family's metrics, in percent."""
    found: list[tuple[str, Sequence[tuple[str, str]]]] = []
    for family, metrics in score.scored.metrics.items():
        values = [(name, percent(score, family, name)) for name in metrics]
        found.append((family, [(name, "-" if value is None else f"{value:.1f}") for name, value in values]))
    return found


def _speed(speed: Mapping[str, float]) -> str:
    """One line, empty when nothing was run."""
    if not speed:
        return ""
    stages = ", ".join(f"{stage} {speed[stage]:g}" for stage in STAGES if stage in speed)
    return f"Images per second: {speed['per_second']:g} ({stages}). Peak memory {speed['peak_memory_mib']:.0f} MiB."


def _counted(truth: GroundTruth, score: CellScore) -> str:
    """How many objects count, of how many, and what the others are."""
    objects = [one for of_image in truth.objects.values() for one in of_image]
    counted = {one.object.id for one in score.scored.objects}
    others = Counter(
        "crowd" if one.crowd else "too small" if one.masked else "without a mask"
        for one in objects
        if one.id not in counted
    )
    if not others:
        return f"{len(objects)} objects"
    told = ", ".join(f"{count} {kind}{'s' if kind == 'crowd' and count > 1 else ''}" for kind, count in others.items())
    return f"{len(counted)} of the {len(objects)} objects; left out: {told}"


def _charts(score: CellScore, names: dict[int, str], counted: str) -> list[Chart]:
    """counted: of how many objects they tell."""
    scored = score.scored
    charts = []
    if scored.curves is not None:
        lines = {name: (RECALLS.tolist(), np.nan_to_num(scored.curves[i]).tolist()) for name, i in _CURVES.items()}
        svg = plots.line_chart(lines, x="recall", y="precision")
        charts.append(Chart("Precision and recall", Markup(svg), "mean over classes"))
    charts.append(_size_chart(score))
    ious = [one.iou for one in scored.objects]
    counts = np.histogram(ious, bins=_BINS, range=(0, 1))[0].tolist()
    what = "IoU of the best mask of the object's class" if scored.of_detections else "IoU"
    charts.append(Chart("Objects by IoU", Markup(plots.histogram(counts, x=what)), counted))
    if scored.mistakes:
        bars = [(one.kind, one.cost, f"{100 * one.cost:.1f}  ({one.count})") for one in scored.mistakes]
        note = "AP50 points lost to each kind, and how often it occurs"
        charts.append(Chart("What went wrong", Markup(plots.bar_chart(bars)), note))
    scale = 100 if scored.of_detections else 1
    ranked = sorted(((names[id], value * scale) for id, value in scored.classes.items()), key=lambda item: -item[1])
    note = "AP" if scored.of_detections else "mIoU"
    if len(ranked) > _CLASSES:
        note += f" of the best and the worst {_CLASSES // 2} of {len(ranked)} classes"
        ranked = ranked[: _CLASSES // 2] + ranked[-_CLASSES // 2 :]
    if ranked:
        bars = [(name, value, f"{value:.1f}") for name, value in ranked]
        charts.append(Chart("By class", Markup(plots.bar_chart(bars, most=100)), note))
    return charts


def _size_chart(score: CellScore) -> Chart:
    """Bars of small, medium and large objects, of the cell's first family of metrics."""
    family = next(iter(score.scored.metrics))
    keys = ("APs", "APm", "APl") if score.scored.of_detections else ("small", "medium", "large")
    bars = []
    for name, key in zip(("small", "medium", "large"), keys, strict=True):
        value = percent(score, family, key)
        bars.append((name, value or 0.0, "-" if value is None else f"{value:.1f}"))
    note = f"{family}: under 32², under 96², and larger, in pixels of annotated area"
    return Chart("By size", Markup(plots.bar_chart(bars, most=100)), note)
