"""COCO's segmentations as masks: polygons, and run lengths as numbers or as text.

Every function takes what stands in the JSON and raises DataError that says what is wrong with it, see `pipelines.coco`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines import coco, polygons, rle
from pipelines.errors import DataError
from pipelines.types import Rle

_LEAST_NUMBERS = 6
"""Numbers of a polygon that covers something."""


def mask_and_box(
    entry: dict[str, Any], height: int, width: int
) -> tuple[Rle | None, tuple[float, float, float, float]]:
    """An entry's mask, None where it has none, and its box (xywh), the mask's where it has none."""
    masked, boxed = coco.has(entry, "segmentation"), coco.has(entry, "bbox")
    if not masked and not boxed:
        raise DataError("it has neither a 'segmentation' nor a 'bbox'")
    mask = to_rle(entry["segmentation"], height, width) if masked else None
    if boxed or mask is None:
        return mask, coco.box(entry)
    x, y, w, h = map(float, rle.bbox(mask))
    return mask, (x, y, w, h)


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """A segmentation of any kind -> Rle of an image: polygons, uncompressed counts or compressed ones.

    Polygons are drawn as pycocotools draws them; those of fewer than three corners cover nothing and are left out, see
    `flat_polygons`.
    """
    if isinstance(segmentation, dict):
        return _read_counts(segmentation, height, width)
    if not isinstance(segmentation, list):
        raise DataError(f"'segmentation' is {coco.told(segmentation)}, neither polygons nor run lengths")
    for polygon in segmentation:
        _check_polygon(polygon)
    return polygons.draw([polygon for polygon in segmentation if len(polygon) >= _LEAST_NUMBERS], height, width)


def flat_polygons(segmentation: Any) -> int:
    """How many of its polygons cover nothing, because they have fewer than three corners."""
    of_list = segmentation if isinstance(segmentation, list) else []
    return sum(isinstance(polygon, list) and len(polygon) < _LEAST_NUMBERS for polygon in of_list)


def note_of_flat(flat: Mapping[int, int], noun: str, file: str) -> list[str]:
    """What is said of them. flat: number of an entry -> how many it has; noun: what an entry is."""
    if not flat:
        return []
    count = sum(flat.values())
    what = f"{count} polygons, which cover" if count > 1 else "a polygon, which covers"
    where = coco.numbered(noun, list(flat))
    return [f"left out of {file}: {what} nothing with fewer than three corners ({where})"]


def _check_polygon(polygon: Any) -> None:
    """Numbers x and y in turn, finite and not too large."""
    if not isinstance(polygon, list) or len(polygon) % 2:
        raise DataError(f"'segmentation' holds {coco.told(polygon)}, not a polygon: a list of numbers x, y, x, y, ...")
    if not coco.are_numbers(polygon):
        coco.check_numbers(polygon, "'segmentation' has a polygon with a corner at")


def _read_counts(segmentation: dict[str, Any], height: int, width: int) -> Rle:
    for field in ("size", "counts"):
        if field not in segmentation:
            raise DataError(f"'segmentation' has no '{field}'")
    size, counts = segmentation["size"], segmentation["counts"]
    if size != [height, width]:
        raise DataError(
            f"'segmentation' is of size {coco.told(size)}, but its image is {height} x {width} (height x width)"
        )
    if isinstance(counts, str):
        mask = Rle(size=[height, width], counts=counts)
        rle.check(mask)
        return mask
    if not isinstance(counts, list) or not all(coco.is_whole(run) and run >= 0 for run in counts):
        raise DataError(f"'counts' of 'segmentation' is {coco.told(counts)}, neither text nor a list of whole numbers")
    if sum(counts) != height * width:
        raise DataError(f"the run lengths of 'segmentation' do not fill {width} x {height} pixels")
    return rle.from_runs([int(run) for run in counts], height, width)
