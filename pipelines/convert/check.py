"""What each kind of output has kept: it is read back, and compared object by object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipelines.convert.image import masked
from pipelines.convert.spool import Spool
from pipelines.labels import LABELS, Asked
from pipelines.labels.glimpse import open_labels
from pipelines.names import match, pair
from pipelines.outputs import OUTPUTS, OutputRow
from pipelines.records import InstanceRecord, Record
from pipelines.run import Watcher
from pipelines.run.folder import Plan
from pipelines.run.journal import Journal
from pipelines.types import Category

Float64 = NDArray[np.float64]


@dataclass
class Kept:
    """objects: that the kind was made of; lost: those not found again; least, mean: of the others, the IoU of what came
    back with what was there. None where nothing came back, or nothing reads the kind. of: whether masks were compared,
    and boxes where there was no mask, or boxes alone, since the kind has no masks."""

    kind: str
    of: str = "masks"
    objects: int = 0
    lost: int | None = 0
    least: float | None = None
    mean: float | None = None


def check(
    folder: Path, plan: Plan, journal: Journal, ids: Mapping[str, int], categories: Sequence[Category], watch: Watcher
) -> list[dict[str, Any]]:
    """Each kind of the plan, as `Kept` has it. categories: of what is in the journal."""
    names = {category.id: category.name for category in categories}
    sizes = dict[str, tuple[int, int]]()
    for record in journal.records(ids):
        size = record.width, record.height
        sizes |= {plan.stems[record.name]: size, str(PurePosixPath(record.name).with_suffix("")): size}
    return [asdict(_kept(OUTPUTS[kind], folder, journal, ids, names, sizes, watch)) for kind in plan.settings["save"]]


def _kept(
    row: OutputRow,
    folder: Path,
    journal: Journal,
    ids: Mapping[str, int],
    names: Mapping[int, str],
    sizes: Mapping[str, tuple[int, int]],
    watch: Watcher,
) -> Kept:
    def there(name: str) -> Record:
        record = journal.record(name)
        return masked(record) if row.needs == "masks" else record

    kept = Kept(row.name, objects=sum(len(there(name).instances) for name in ids))
    if row.labels is None:
        kept.lost = None
        return kept
    ious, theirs = [np.zeros(0)], dict[int, str]()
    with Spool(folder) as spool:
        for file in _labels(folder, row):
            labels = open_labels(file, Asked(sizes=sizes), row.labels)
            theirs = {category.id: category.name for category in labels.categories} if labels.named else dict(names)
            for number, record in enumerate(labels.records):
                watch.within(f"checking {file.name}", number, labels.count)
                spool.add(record)
            watch.within(f"checking {file.name}", labels.count, labels.count)
        if not spool.masks:
            kept.of = "boxes"
        own = _own(ids, spool.names)
        for record in spool.records():
            if record.name in own:
                ours = there(own[record.name]).instances
                ious.append(_ious(ours if spool.masks else _boxes(ours), names, record.instances, theirs))
    found = np.concatenate(ious)
    kept.lost = kept.objects - len(found)
    if len(found):
        kept.least, kept.mean = float(found.min()), float(found.mean())
    return kept


def _labels(folder: Path, row: OutputRow) -> list[Path]:
    """What its format reads of what a kind has written."""
    suffixes = LABELS[row.labels].suffixes if row.labels else ()
    there = [folder / file for file in row.files]
    return [file for file in there if file.is_dir() or (file.is_file() and file.suffix in suffixes)]


def _own(ours: Iterable[str], theirs: Sequence[str]) -> dict[str, str]:
    """Name that came back -> the image's; where a kind does not keep names, by their stems."""
    found = dict(match(ours, theirs).found)
    taken = set(found.values())
    found |= pair([name for name in ours if name not in found], [name for name in theirs if name not in taken]).found
    return {their: mine for mine, their in found.items()}


def _boxes(rows: Sequence[InstanceRecord]) -> list[InstanceRecord]:
    return [InstanceRecord(category_id=row["category_id"], bbox=row["bbox"], score=row["score"]) for row in rows]


def _ious(
    ours: Sequence[InstanceRecord], names: Mapping[int, str], found: Sequence[InstanceRecord], theirs: Mapping[int, str]
) -> Float64:
    """That of each object of ours with the one that it came back as: of the same class, the most alike first."""
    kept = [np.zeros(0)]
    for name in {names[row["category_id"]] for row in ours}:
        mine = [row for row in ours if names[row["category_id"]] == name]
        those = [row for row in found if theirs[row["category_id"]] == name]
        kept += [_matched(mine, those, masks) for masks in (True, False)]
    return np.concatenate(kept)


def _matched(mine: Sequence[InstanceRecord], those: Sequence[InstanceRecord], masks: bool) -> Float64:
    """Of objects with a mask, or of those without."""
    mine, those = ([row for row in rows if ("segmentation" in row) == masks] for rows in (mine, those))
    if not mine or not those:
        return np.zeros(0)
    field = "segmentation" if masks else "bbox"
    if [row[field] for row in mine] == [row[field] for row in those]:  # type: ignore[literal-required]
        return np.ones(len(mine))
    ious = _iou([row[field] for row in mine], [row[field] for row in those])  # type: ignore[literal-required]
    left, found = set(range(len(mine))), []
    taken: set[int] = set()
    overlapping = np.flatnonzero(ious > 0)
    for place in overlapping[np.argsort(-ious.flat[overlapping], kind="stable")].tolist():
        i, j = divmod(place, len(those))
        if i in left and j not in taken:
            left.remove(i)
            taken.add(j)
            found.append(ious[i, j])
    return np.array(found)


def _iou(mine: list[Any], those: list[Any]) -> Float64:
    """A x B, of masks or xywh boxes."""
    both: Float64 = coco_mask.iou(those, mine, [False] * len(mine)).T
    return both
