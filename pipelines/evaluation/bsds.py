"""Edge maps scored on BSDS500: ODS, OIS and AP, and how well its annotators agree with one another.

Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation", PAMI 2011, section 2, in the form that edge
papers have used since (Dollar and Zitnick's edgesEvalDir): 99 thresholds, the map thinned at each, every annotator
matched in turn; recall over all annotators' pixels, precision over the pixels that any of them confirms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.errors import DataError, UsageError
from pipelines.evaluation.edge_maps import match_edges, scipy, thin
from pipelines.evaluation.predictions import Float64
from pipelines.evaluation.protocols import EDGE_TOLERANCE
from pipelines.evaluation.stamp import stamp_of_folders
from pipelines.files import make_folder, write_json, writing
from pipelines.names import pair
from pipelines.notes import counted_images
from pipelines.types import Bool, Int64

THRESHOLDS = np.linspace(0.01, 0.99, 99)
_EPS = np.finfo(np.float64).eps


@dataclass(frozen=True)
class EdgeCounts:
    """Pixels of one image, by threshold: K int64 each. recalled of truth: annotated; confirmed of found: claimed."""

    recalled: Int64
    truth: Int64
    confirmed: Int64
    found: Int64

    def __add__(self, other: EdgeCounts) -> EdgeCounts:
        return EdgeCounts(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def take(self, threshold: int) -> EdgeCounts:
        """Those of one threshold."""
        return EdgeCounts(*(getattr(self, name)[[threshold]] for name in self.__dataclass_fields__))

    def pooled(self) -> EdgeCounts:
        """All entries together, as one."""
        return EdgeCounts(*(getattr(self, name).sum(keepdims=True) for name in self.__dataclass_fields__))

    def curve(self) -> tuple[Float64, Float64, Float64]:
        """Recall, precision and F by threshold, 0 to 1."""
        recall = self.recalled / np.maximum(_EPS, self.truth)
        precision = self.confirmed / np.maximum(_EPS, self.found)
        return recall, precision, 2 * precision * recall / np.maximum(_EPS, precision + recall)


def count_edges(probability: Float64, annotators: Sequence[Bool], tolerance: float = EDGE_TOLERANCE) -> EdgeCounts:
    """probability: H x W float64, 0 to 1; annotators: H x W bool each."""
    rows: list[tuple[int, int, int, int]] = []
    before: Bool | None = None
    for threshold in THRESHOLDS:
        strong = probability >= threshold
        if before is None or not np.array_equal(strong, before):
            rows.append(_count(thin(strong), annotators, tolerance))
            before = strong
        else:
            rows.append(rows[-1])
    return EdgeCounts(*np.array(rows, np.int64).T)


def _count(edges: Bool, annotators: Sequence[Bool], tolerance: float) -> tuple[int, int, int, int]:
    confirmed, recalled = np.zeros(edges.shape, np.bool_), 0
    for truth in annotators:
        mine, theirs = match_edges(edges, truth, tolerance)
        confirmed |= mine
        recalled += int(theirs.sum())
    return recalled, sum(int(truth.sum()) for truth in annotators), int(confirmed.sum()), int(edges.sum())


def summarise(counts: Sequence[EdgeCounts]) -> dict[str, float | None]:
    """ODS (best threshold of the data set), OIS (best of each image), AP and R50, with precision, recall, threshold.

    R50, the recall at a precision of 0.5, is None when no threshold has that precision.
    """
    recall, precision, _ = (total := sum_counts(counts)).curve()
    ods_recall, ods_precision, ods, threshold = _best(recall, precision)
    own = sum_counts([one.take(int(one.curve()[2].argmax())) for one in counts])
    (ois_recall,), (ois_precision,), (ois,) = own.curve()
    ordered, first = np.unique(recall, return_index=True)
    levels = np.linspace(0, 1, 101)
    area = np.interp(levels, ordered, precision[first], left=np.nan, right=np.nan)
    by_precision, place = np.unique(precision, return_index=True)
    half = float(np.interp(max(by_precision[0], 0.5), by_precision, recall[place]))
    return {
        "ODS": ods,
        "OIS": float(ois),
        "AP": float(np.nansum(area) / 100) if len(ordered) > 1 else 0.0,
        "R50": half if by_precision[-1] >= 0.5 else None,
        "ODS precision": ods_precision,
        "ODS recall": ods_recall,
        "ODS threshold": threshold,
        "OIS precision": float(ois_precision),
        "OIS recall": float(ois_recall),
        "images": len(counts),
        "annotated pixels": int(total.truth[0]),
    }


def sum_counts(counts: Sequence[EdgeCounts]) -> EdgeCounts:
    """The counts of several images together."""
    return sum(counts[1:], counts[0])


def _best(recall: Float64, precision: Float64) -> tuple[float, float, float, float]:
    """Recall, precision, F and threshold where F is best, interpolated between neighbouring thresholds."""
    best = (0.0, 0.0, -1.0, 0.0)
    for low, high in pairwise(range(len(THRESHOLDS))):
        share = np.linspace(0, 1, 100)
        r, p, t = (values[high] * share + values[low] * (1 - share) for values in (recall, precision, THRESHOLDS))
        f = 2 * p * r / np.maximum(_EPS, p + r)
        at = int(f.argmax())
        if f[at] > best[2]:
            best = float(r[at]), float(p[at]), float(f[at]), float(t[at])
    return best


def human_agreement(annotators: Sequence[Bool], tolerance: float = EDGE_TOLERANCE) -> EdgeCounts:
    """Each annotator of an image scored against the others: one entry per annotator, in place of thresholds.

    All maps are thinned, as by the benchmark's boundaryBenchHuman and boundaryPR.
    """
    maps = [thin(one) for one in annotators]
    rows = [_count(mine, [other for other in maps if other is not mine], tolerance) for mine in maps]
    return EdgeCounts(*np.array(rows, np.int64).T)


def read_annotators(path: Path) -> list[Bool]:
    """The boundaries of a BSDS500 .mat file, one map per annotator. Raises DataError."""
    matlab = scipy("io")
    try:
        truth = matlab.loadmat(path, variable_names=["groundTruth"])["groundTruth"].ravel()
        return [np.ascontiguousarray(one["Boundaries"][0, 0]).astype(bool) for one in truth]
    except Exception as error:  # scipy lets any exception through on damaged files
        raise DataError(f"{path} is not ground truth of BSDS500: {error!r}") from error


def read_edges(path: Path) -> Float64:
    """A grey picture of 8 or 16 bits as H x W float64, 0 to 1. Raises DataError."""
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
    full = {"uint8": 255, "uint16": 65535}.get(str(pixels.dtype)) if pixels is not None else None
    if pixels is None or pixels.ndim != 2 or full is None:
        raise DataError(f"{path} is not an edge map: a grey picture of 8 or 16 bits is expected")
    return np.asarray(pixels, np.float64) / full


def find_edges(folder: Path, truth: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The edge map of each .mat file, and notes: `<name>.png`, or `<name>.jpg.png`, as `evsam everything` has it where
    images share a stem.

    Raises DataError.
    """
    maps = [path.name for path in sorted(folder.glob("*.png"))]
    images = [f"{path.stem}.jpg" for path in truth]
    pairing = pair(images, maps)
    for path, image in zip(truth, images, strict=True):
        if image not in pairing.found:
            raise DataError(f"{folder} has no edge map {path.stem}.png")
    notes = pairing.notes(str(folder))
    unused = [name for name in maps if name not in pairing.found.values()]
    if unused:
        notes.append(f"edge maps of {folder} have no .mat file and are not scored: {counted_images(unused)}")
    return [folder / pairing.found[image] for image in images], notes


def evaluate_edges(
    truth: Path, edges: Path | None, *, tolerance: float = EDGE_TOLERANCE, workers: int = 1, output: Path | None = None
) -> dict[str, Any]:
    """Metrics, notes and stamp of a folder of edge maps; with None, of the annotators against one another.

    output: folder for `bsds.json`, which also holds the curve.
    """
    if not 0 < tolerance < 1:
        raise UsageError(
            f"the tolerance is {tolerance:g}, but must be a share of the diagonal, such as {EDGE_TOLERANCE}"
        )
    if output:
        make_folder(output)
    notes: list[str] = []
    if edges is None:
        per_annotator = score_humans(truth, tolerance=tolerance, workers=workers)
        counts = [one.pooled() for one in per_annotator]
        recall, precision, f = sum_counts(counts).curve()
        metrics: dict[str, float | None] = {
            "F": float(f[0]),
            "precision": float(precision[0]),
            "recall": float(recall[0]),
            "median F of annotators": float(np.median(np.concatenate([one.curve()[2] for one in per_annotator]))),
            "mean F of images": float(np.mean([one.curve()[2][0] for one in counts])),
            "images": len(counts),
        }
    else:
        _, notes = find_edges(edges, _mats(truth))
        counts = score_edges(truth, edges, tolerance=tolerance, workers=workers)
        metrics = summarise(counts)
        recall, precision, f = sum_counts(counts).curve()
    thinned = "all maps" if edges is None else "the maps that are scored, not the truth"
    rules = {"name": "bsds500", "tolerance": tolerance, "thresholds": len(recall), "thinned": thinned}
    document = {
        "metrics": metrics,
        "curve": {"recall": recall.tolist(), "precision": precision.tolist(), "F": f.tolist()},
        "notes": notes,
        "stamp": stamp_of_folders(rules, truth, edges, len(counts)),
    }
    if output:
        with writing(output):
            write_json(output / "bsds.json", document)
    return document


def score_edges(truth: Path, edges: Path, *, tolerance: float = EDGE_TOLERANCE, workers: int = 1) -> list[EdgeCounts]:
    """Every .mat of a folder against its edge map in another."""
    mats = _mats(truth)
    maps, _ = find_edges(edges, mats)
    return _in_parallel(partial(_score_one, tolerance), list(zip(mats, maps, strict=True)), workers)


def score_humans(truth: Path, *, tolerance: float = EDGE_TOLERANCE, workers: int = 1) -> list[EdgeCounts]:
    """The annotators of every .mat of a folder against one another."""
    return _in_parallel(partial(_agree_one, tolerance), [(path,) for path in _mats(truth)], workers)


def _mats(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.mat"))
    if not found:
        raise DataError(f"{folder} has no .mat file: name BSDS500's folder of ground truth, such as groundTruth/test")
    return found


def _score_one(tolerance: float, truth: Path, edges: Path) -> EdgeCounts:
    annotators, probability = read_annotators(truth), read_edges(edges)
    if any(one.shape != probability.shape for one in annotators):
        raise DataError(f"{edges} is not of the size of {truth}")
    return count_edges(probability, annotators, tolerance)


def _agree_one(tolerance: float, truth: Path) -> EdgeCounts:
    return human_agreement(read_annotators(truth), tolerance)


def _in_parallel(job: Callable[..., EdgeCounts], items: Sequence[tuple[Path, ...]], workers: int) -> list[EdgeCounts]:
    """The job's results in order. Processes, not threads: matching holds Python's lock."""
    if workers == 1:
        return [job(*item) for item in items]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return [future.result() for future in [pool.submit(job, *item) for item in items]]
