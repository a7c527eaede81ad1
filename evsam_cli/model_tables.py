"""The tables of docs/models.md, made of the rows: between `<!-- NAME -->` and `<!-- end -->`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pipelines.benchmark.cost import REFERENCE, Cost
from pipelines.models import KINDS, Model, list_models, model


def with_tables(text: str) -> str:
    """The page with all its tables made anew."""
    tables = {**{kind: _rows(kind) for kind in KINDS}, "networks": _published(True), "accuracy": _published(False)}
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{_markdown(*table)}\n{end}{rest.partition(end)[2]}"
    return text


_NUMBERS = {"parameters, M", "MACs, G", "EER", "COCO mIoU", "COCO AP", "ours", "published"}


def _markdown(header: Sequence[str], *rows: Sequence[str]) -> str:
    ruler = ["---:" if title in _NUMBERS else "---" for title in header]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ruler, *rows))


def _rows(kind: str) -> Iterator[Sequence[str]]:
    """What `evsam models` shows of a kind."""
    sam = kind == "SAM"
    accuracy = {"COCO mIoU": "COCO mIoU", "COCO AP": "COCO AP, boxes of ViTDet"} if sam else {"COCO AP": "COCO AP of"}
    yield "model", "input", "parameters, M", "MACs, G", *(["EER"] if sam else []), *accuracy, "licence", "good for"
    for each in _of(kind):
        counts = [f"{each.facts.parameters / 1e6:.1f}", f"{each.facts.macs / 1e9:.1f}"] if each.facts else ["-", "-"]
        if sam:
            counts.append(f"{_cost(each).error_rate(_cost(model(REFERENCE))):.3f}")
        best = [found.value if (found := each.best(figure)) else "-" for figure in accuracy.values()]
        yield f"`{each.name}`", each.side, *counts, *best, _licence(each), each.row.summary


def _published(of_network: bool) -> Iterator[Sequence[str]]:
    """Published figures of networks beside ours, or those of accuracy."""
    yield (
        ("model", "figure", "ours", "published", "paper", "why another")
        if of_network
        else (
            "model",
            "figure",
            "published",
            "paper",
            "remark",
        )
    )
    for each in (each for kind in KINDS for each in _of(kind)):
        for entry in each.published:
            ours = each.ours(entry)
            if (ours is not None) == of_network:
                counts = [ours, entry.value] if ours is not None else [entry.value]
                yield f"`{each.name}`", entry.figure, *counts, entry.paper, entry.why or ""


def _of(kind: str) -> Iterable[Model]:
    return (each for each in list_models() if each.kind == kind)


def _cost(each: Model) -> Cost:
    assert each.facts is not None
    return Cost(each.facts.parameters, each.facts.macs)


def _licence(each: Model) -> str:
    file = each.files[0]
    return file.licence.removeprefix("LicenseRef-") + (f", {file.terms}" if file.terms else "")
