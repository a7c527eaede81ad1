"""Segmentation in the Wild: 25 small data sets in COCO's format, scored one by one and on average.

Zou et al., "Generalized Decoding for Pixel, Image, and Language" (X-Decoder), CVPR 2023. Each set is a folder with
`valid/_annotations_min1cat.coco.json` beside its images; text detectors are asked for its category names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.errors import DataError
from pipelines.evaluation.annotations import read_ground_truth
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.evaluate import build_models, check_models, check_truth, evaluate
from pipelines.evaluation.matrix import as_csv, latex
from pipelines.files import write_json, write_text, writing
from pipelines.run import Watcher

SETS = (
    "Airplane-Parts", "Bottles", "Brain-Tumor", "Chicken", "Cows", "Electric-Shaver", "Elephants", "Fruits", "Garbage",
    "Ginger-Garlic", "Hand", "Hand-Metal", "House-Parts", "HouseHold-Items", "Nutterfly-Squireel", "Phones", "Poles",
    "Puppies", "Rail", "Salmon-Fillet", "Strawberry", "Tablets", "Toolkits", "Trash", "Watermelon",
)  # fmt: skip
"""The benchmark's sets, spelled as it spells them."""
ANNOTATIONS = ("valid/_annotations_min1cat.coco.json", "valid/_annotations.coco.json", "annotations.json")
"""Where a set may have its annotations, best first; the images are below the same folder, or in `images` beside it."""


@dataclass(frozen=True)
class WildScore:
    """One detector with one SAM. ap: set name -> segm AP, 0 to 1; mean: over the sets.

    missing: sets of the benchmark that are not there; failed: "set/image" -> reason; notes: "set: note".
    """

    name: str
    ap: Mapping[str, float]
    missing: Sequence[str]
    failed: Mapping[str, str]
    notes: Sequence[str]

    @property
    def mean(self) -> float:
        return sum(self.ap.values()) / len(self.ap)


def find_sets(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Set name -> its annotations and the folder of its images. Raises DataError when there is none."""
    found = {}
    for one in sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ():
        for place in ANNOTATIONS:
            annotations = one / place
            if annotations.is_file():
                beside = annotations.parent / "images"
                found[one.name] = (annotations, beside if beside.is_dir() else annotations.parent)
                break
    if not found:
        raise DataError(f"{folder} holds no data set: each is a folder with {ANNOTATIONS[0]}")
    return found


def evaluate_wild(
    folder: Path, config: EvaluationConfig, watch: Callable[[str], Watcher] | None = None
) -> list[WildScore]:
    """Score every set below `folder`, each in `config.output/<set>`, and write the table of all.

    config: for one set; annotations and images are put in. watch: from a set's name to what is told of its progress.
    A set without an object that could count has AP 0. Raises as `pipelines.evaluation.evaluate.evaluate` does.
    """
    sets = find_sets(folder)
    configs = {
        name: replace(config, annotations=file, images=images, output=config.output / name)
        for name, (file, images) in sets.items()
    }
    truths = {}
    for name, mine in configs.items():
        check_models(mine)
        truths[name] = read_ground_truth(mine.annotations)
        check_truth(mine, truths[name])
    models = build_models(config)
    ap: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    notes: list[str] = []
    for name, mine in configs.items():
        evaluation = evaluate(mine, watch(name) if watch else None, models=models, truth=truths[name])
        for cell in evaluation.cells:
            of_set = cell.scored.metrics["segm"]["AP"]
            ap.setdefault(cell.name, {})[name] = of_set or 0.0
            if of_set is None:
                notes.append(f"{name}: counts as an AP of 0")
        failed |= {f"{name}/{image}": reason for image, reason in evaluation.failed.items()}
        notes += [f"{name}: {note}" for note in evaluation.notes]
    missing = [name for name in SETS if name not in sets] if set(sets) & set(SETS) else []
    scores = [WildScore(cell, of_sets, missing, failed, list(dict.fromkeys(notes))) for cell, of_sets in ap.items()]
    _write(config.output, scores)
    return scores


def wild_rows(scores: Sequence[WildScore], digits: int = 1) -> list[list[str]]:
    """A header and one row per set, the mean first, in percent."""
    rows = [["set", *(score.name for score in scores)], ["mean", *(f"{100 * s.mean:.{digits}f}" for s in scores)]]
    for name in scores[0].ap:
        rows.append([name, *(f"{100 * score.ap[name]:.{digits}f}" for score in scores)])
    return rows


def _write(folder: Path, scores: Sequence[WildScore]) -> None:
    document = [{"name": s.name, "mean": s.mean, "ap": s.ap, "missing_sets": s.missing} for s in scores]
    with writing(folder):
        write_text(folder / "sginw.csv", as_csv(wild_rows(scores, digits=3)))
        write_text(folder / "sginw.tex", latex(wild_rows(scores), names=1))
        write_json(folder / "sginw.json", document)
