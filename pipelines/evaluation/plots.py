"""Small SVG charts for a page: text that a browser draws, without scripts. Colours are the page's CSS variables."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from pipelines.printable import printable

_SERIES = 7
"""Colours that the page defines as --c0 to --c6."""


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    width: int = 420,
    height: int = 300,
) -> str:
    """Lines on axes from 0 to 1. series: name -> (x values, y values); x, y: what the axes are called."""
    left, right, top, bottom = 46, 12, 10, 40
    plot_width, plot_height = width - left - right, height - top - bottom

    def at(horizontal: float, vertical: float) -> str:
        return f"{left + horizontal * plot_width:.1f},{top + (1 - vertical) * plot_height:.1f}"

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        across, up = left + tick * plot_width, top + (1 - tick) * plot_height
        parts += [
            f'<line class="grid" x1="{left}" y1="{up:.1f}" x2="{width - right}" y2="{up:.1f}"/>',
            f'<line class="grid" x1="{across:.1f}" y1="{top}" x2="{across:.1f}" y2="{height - bottom}"/>',
            f'<text x="{left - 6}" y="{up + 4:.1f}" text-anchor="end">{tick:g}</text>',
            f'<text x="{across:.1f}" y="{height - bottom + 16}" text-anchor="middle">{tick:g}</text>',
        ]
    for index, (name, (xs, ys)) in enumerate(series.items()):
        points = " ".join(at(*point) for point in zip(xs, ys, strict=True))
        colour = f"var(--c{index % _SERIES})"
        style = f"stroke:{colour};stroke-dasharray:{_dashes(index)}"
        parts.append(f'<polyline points="{points}" style="{style}"><title>{escape(name)}</title></polyline>')
    parts += [
        f'<text x="{left + plot_width / 2}" y="{height - 6}" text-anchor="middle">{escape(x)}</text>',
        f'<text transform="translate(12 {top + plot_height / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text>',
    ]
    return _svg(width, height, parts) + _legend(list(series))


def bar_chart(bars: Sequence[tuple[str, float, str]], *, most: float | None = None, width: int = 420) -> str:
    """Horizontal bars. bars: (name, value, text beside it); most: the value of a full bar, None for the largest."""
    row, left = 20, 130
    right = 12 + 6.5 * max([len(text) for *_, text in bars], default=0)  # room for the texts in an 11-pixel font
    full = max([value for _, value, _ in bars] if most is None else [most], default=0) or 1
    parts = []
    for index, (name, value, text) in enumerate(bars):
        length = max(0.0, min(1.0, value / full)) * (width - left - right)
        parts += [
            f'<text x="{left - 8}" y="{index * row + 14}" text-anchor="end">{escape(_short(name))}'
            f"<title>{escape(name)}</title></text>",
            f'<rect class="bar" x="{left}" y="{index * row + 3}" width="{length:.1f}" height="{row - 6}" rx="2"/>',
            f'<text x="{left + length + 6:.1f}" y="{index * row + 14}">{escape(text)}</text>',
        ]
    return _svg(width, max(1, len(bars)) * row + 4, parts)


def histogram(counts: Sequence[int], *, x: str, width: int = 420, height: int = 220) -> str:
    """Vertical bars of equal bins over 0 to 1. x: what the axis is called."""
    left, right, top, bottom = 46, 12, 14, 40
    plot_width, plot_height = width - left - right, height - top - bottom
    full, step = max(counts, default=0) or 1, plot_width / max(1, len(counts))
    parts = []
    for index, count in enumerate(counts):
        tall = count / full * plot_height
        low, high = index / len(counts), (index + 1) / len(counts)
        parts.append(
            f'<rect class="bar" x="{left + index * step + 1:.1f}" y="{top + plot_height - tall:.1f}" '
            f'width="{step - 2:.1f}" height="{tall:.1f}"><title>{low:.2f} to {high:.2f}: {count}</title></rect>'
        )
    for tick in (0, 0.25, 0.5, 0.75, 1):
        across = left + tick * plot_width
        parts.append(f'<text x="{across:.1f}" y="{height - bottom + 16}" text-anchor="middle">{tick:g}</text>')
    parts += [
        f'<line class="axis" x1="{left}" y1="{height - bottom}" x2="{width - right}" y2="{height - bottom}"/>',
        f'<text x="{left - 6}" y="{top + 4}" text-anchor="end">{max(counts, default=0)}</text>',
        f'<text x="{left + plot_width / 2}" y="{height - 6}" text-anchor="middle">{escape(x)}</text>',
    ]
    return _svg(width, height, parts)


def _svg(width: int, height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height:g}" role="img">{"".join(parts)}</svg>'


def _dashes(index: int) -> str:
    """Of line `index`: the first is whole, each later one has longer gaps, through which those beneath it show."""
    return "none" if not index else f"{max(14 - 2 * (index % _SERIES), 2)} {2 + 2 * (index % _SERIES)}"


def _legend(names: Sequence[str]) -> str:
    entries = [
        f'<span><svg viewBox="0 0 28 8"><line x1="0" y1="4" x2="28" y2="4" '
        f'style="stroke:var(--c{index % _SERIES});stroke-dasharray:{_dashes(index)}"/></svg>{escape(name)}</span>'
        for index, name in enumerate(names)
    ]
    return f'<div class="legend">{"".join(entries)}</div>'


def _short(name: str) -> str:
    return name if len(name) <= 19 else f"{name[:17]}…"


def escape(text: str) -> str:
    return html.escape(printable(text))
