"""`evsam models`: what there is to choose from, and what is known of each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from evsam_cli import pages, say
from evsam_cli.commands import WIDEST, completing
from evsam_cli.pages import Piece
from evsam_cli.weights import STATES, licence_of, size_of
from pipelines.models import KINDS, Model, list_models, model
from weights import store

EXAMPLES = """
# All of them
evsam models

# One, with all that was published of it
evsam models efficientvit-sam-l0

# For programs
evsam models --json
"""
COLUMNS = ("params", "MACs", "input", "mIoU", "AP", "weights", "licence")
WIDE = 120
"""Characters across from which on what a model is good for stands beside its figures."""
USE = {"SAM": "--sam {}", "detector": "--detector {}", "text detector": "--text 'WORDS' --detector {}"}
LEGEND = (
    "params: millions; MACs: billions for one image, of SAMs the encoder's; input: pixels; mIoU: published, by COCO's "
    "true boxes; AP: published, of SAMs COCO's masks by boxes of ViTDet, of detectors COCO's boxes; weights: here, or "
    "what a first use fetches."
)


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Show one, with all that was published of it.",
            autocompletion=completing([name for rows in KINDS.values() for name in rows]),
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every figure.")] = False,
) -> None:
    """Show SAMs and detectors: size, arithmetic, published accuracy, licence, where weights are, what each is good for.

    `evsam models NAME` shows all that was published of one, and why a count of ours is another.
    """
    chosen = list(list_models()) if name is None else [model(name)]
    if as_json:
        say.document([_describe(each) for each in chosen] if name is None else _describe(chosen[0]), indent=1)
    elif name is None:
        say.styled(lambda width: _table(chosen, width))
    else:
        say.styled(lambda width: _card(chosen[0], width))


def _describe(each: Model) -> dict[str, object]:
    return {
        "name": each.name,
        "kind": each.kind,
        "good_for": each.row.summary,
        "parameters": each.facts and each.facts.parameters,
        "macs": each.facts and each.facts.macs,
        "input": each.facts and each.facts.input,
        "published": [asdict(entry) for entry in each.published],
        "licence": each.files[0].licence if each.files else None,
        "terms": each.files[0].terms if each.files else None,
        "source": each.files[0].source if each.files else None,
        "weights": store.state(each.row.weights) if each.row.weights else None,
    }


def _weights(each: Model) -> str:
    if not each.row.weights:
        return "-"
    state = store.state(each.row.weights)
    return {"missing": size_of(each.row.weights).replace(".0 ", " "), "bundled": "bundled", "damaged": "damaged"}.get(
        state, "here"
    )


# The table


def _table(shown: Sequence[Model], width: int) -> Iterator[Piece]:
    papers: dict[str, int] = {}
    for kind in dict.fromkeys(each.kind for each in shown):
        lines = {each.name: _cells(each, papers) for each in shown if each.kind == kind}
        header = {kind: dict(zip(COLUMNS, COLUMNS, strict=True))}
        sizes = [max(len(row[title]) for row in lines.values()) for title in COLUMNS]
        used = {title: max(size, len(title)) for title, size in zip(COLUMNS, sizes, strict=True) if size}
        names = max(map(len, header | lines))
        yield "" if kind == shown[0].kind else "\n", ""
        for name, cells in (header | lines).items():
            line = f"{name:<{names}} " + " ".join(f"{cells[title]:>{size}}" for title, size in used.items())
            yield line, pages.HEADING if name == kind else ""
            if name != kind:
                yield from _beside(KINDS[kind][name].summary, len(line), width)
            yield "\n", ""
    yield "\n", ""
    for text in (LEGEND, *(f"[{number}] {paper}" for paper, number in papers.items())):
        yield textwrap.fill(text, min(width, WIDEST)) + "\n", pages.ASIDE


def _beside(summary: str, indent: int, width: int) -> Iterator[Piece]:
    """What a model is good for, at the end of its line, or where that is too narrow below it."""
    gap, indent = ("  ", indent + 2) if width >= WIDE else ("\n    ", 4)
    yield gap + f"\n{' ' * indent}".join(textwrap.wrap(summary, width - indent)), pages.ASIDE


def _cells(each: Model, papers: dict[str, int]) -> dict[str, str]:
    """papers: those that are referred to, by number; gets more."""

    def published(figure: str) -> str:
        found = each.best(figure)
        return f"{found.value} [{papers.setdefault(found.paper, len(papers) + 1)}]" if found else ""

    return {
        "params": f"{each.facts.parameters / 1e6:.1f}" if each.facts else "-",
        "MACs": f"{each.facts.macs / 1e9:.1f}" if each.facts else "-",
        "input": each.side,
        "mIoU": published("COCO mIoU"),
        "AP": published("COCO AP, boxes of ViTDet" if each.kind == "SAM" else "COCO AP of boxes"),
        "weights": _weights(each),
        "licence": each.files[0].licence.removeprefix("LicenseRef-") if each.files else "-",
    }


# A card


def _card(each: Model, width: int) -> Iterator[Piece]:
    yield f"{each.name}\n", pages.HEADING
    yield textwrap.fill(f"{each.kind}: {each.row.summary}", min(width, WIDEST)) + "\n\n", ""
    for title, text in _said(each):
        lines = textwrap.wrap(text, min(width, WIDEST) - 13, break_long_words=False, break_on_hyphens=False)
        yield f"{title:<13}", pages.NAME
        yield f"\n{' ' * 13}".join(lines) + "\n", ""


def _said(each: Model) -> Iterator[tuple[str, str]]:
    """Titles and texts; the title of a line that goes on with the last one's is empty."""
    if each.facts:
        what = {"SAM": "of the image encoder, for one image", "detector": "for one image"}
        yield "parameters", f"{each.facts.parameters / 1e6:.1f} M ({each.facts.parameters:,})"
        text = what.get(each.kind, "for one image and a text of five tokens")
        yield "MACs", f"{each.facts.macs / 1e9:.1f} G, {text}"
        yield "input", f"{each.side} pixels"
    for number, entry in enumerate(each.published):
        ours = each.ours(entry)
        why = f" ({f'ours {ours}: ' if ours else ''}{entry.why})" if entry.why else ""
        yield "" if number else "published", f"{entry.figure}: {entry.value} [{entry.paper}]{why}"
    if each.row.weights:
        state = store.state(each.row.weights)
        pull = f": `evsam weights pull {each.row.weights}`, {size_of(each.row.weights)}" if state == "missing" else ""
        yield "weights", STATES[state] + pull
        yield "licence", ", ".join(dict.fromkeys(map(licence_of, each.files)))
        yield "source", each.files[0].source
    yield "use", USE[each.kind].format(each.name)
