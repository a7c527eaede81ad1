"""Saliency maps scored by their mean absolute error, and a folder of masks as annotations to be prompted by.

MAE as in Perazzi et al., "Saliency Filters", CVPR 2012, section 4: the mean over pixels of |map - mask|, both 0 to 1,
then the mean over images. Masks are cut at half of full white.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines import rle
from pipelines.errors import DataError, UsageError
from pipelines.evaluation.annotations import GroundTruth, TruthImage, TruthObject
from pipelines.evaluation.evaluate import Evaluation, EvaluationConfig, evaluate
from pipelines.evaluation.predictions import Float64
from pipelines.evaluation.stamp import stamp_of_folders
from pipelines.files import make_folder, write_json, writing
from pipelines.run import Watcher
from pipelines.sources import IMAGE_EXTENSIONS
from pipelines.types import Bool, Category

SALIENT = Category(1, "salient")


def read_masks(masks: Path, images: Path) -> GroundTruth:
    """A folder of masks as a truth with one object per image: its white region, none where nothing is white.

    A mask is a picture with the stem of its image. Raises DataError when the two folders do not fit together.
    """
    by_stem = {path.stem: path.name for path in _pictures(images)}
    listed: dict[int, TruthImage] = {}
    objects: dict[int, list[TruthObject]] = {}
    for number, path in enumerate(_pictures(masks), 1):
        if path.stem not in by_stem:
            raise DataError(f"{images} has no image for the mask {path.name}")
        mask = read_mask(path)
        listed[number] = TruthImage(number, by_stem[path.stem], mask.shape[1], mask.shape[0])
        objects[number] = [_white_region(number, mask)] if mask.any() else []
    return GroundTruth(masks, listed, objects, (SALIENT,), {"images": [], "annotations": [], "categories": []})


def _white_region(number: int, mask: Bool) -> TruthObject:
    shape = rle.encode(mask)
    x, y, w, h = rle.bbox(shape)
    return TruthObject(number, SALIENT.id, (x, y, w, h), float(rle.area(shape)), shape, False)


def mean_absolute_error(masks: Path, maps: Path) -> Mapping[str, float]:
    """Mask name -> MAE, 0 to 1, of the map with its stem. Raises DataError when one is missing or of another size."""
    by_stem = {path.stem: path for path in _pictures(maps)}
    errors = {}
    for path in _pictures(masks):
        if path.stem not in by_stem:
            raise DataError(f"{maps} has no map for the mask {path.name}")
        given, wanted = _read_grey(by_stem[path.stem]), read_mask(path)
        if given.shape != wanted.shape:
            raise DataError(f"{by_stem[path.stem]} is not of the size of {path}")
        errors[path.name] = float(np.abs(given - wanted).mean())
    return errors


def evaluate_maps(masks: Path, maps: Path, *, output: Path | None = None) -> dict[str, Any]:
    """Metrics and stamp of a folder of maps. output: folder for `saliency.json`, which also has every image's error."""
    if output:
        make_folder(output)
    errors = mean_absolute_error(masks, maps)
    document = {
        "metrics": {"MAE": float(np.mean(list(errors.values()))), "images": len(errors)},
        "images": dict(errors),
        "stamp": stamp_of_folders({"name": "saliency MAE", "mask": "at least half white"}, masks, maps, len(errors)),
    }
    if output:
        with writing(output):
            write_json(output / "saliency.json", document)
    return document


def evaluate_prompted(config: EvaluationConfig, watch: Watcher | None = None) -> tuple[Evaluation, dict[str, float]]:
    """Prompt SAMs with the boxes of the masks in config.annotations; the evaluation and the MAE of each cell.

    A black mask has no box, so there is no prompt, no mask and no error. Adds `saliency.json` to what
    `pipelines.evaluation.evaluate.evaluate` writes.
    """
    if config.images is None:
        raise UsageError("to prompt models, the folder of the images is needed: --images FOLDER")
    evaluation = evaluate(config, watch, truth=read_masks(config.annotations, config.images))
    errors = {}
    for cell in evaluation.cells:
        wrong = [float((rle.decode(one.mask) ^ rle.decode(one.object.rle)).mean()) for one in cell.scored.objects]
        errors[cell.name] = sum(wrong) / len(evaluation.truth.images)
    with writing(config.output):
        write_json(config.output / "saliency.json", {"MAE": errors})
    return evaluation, errors


def read_mask(path: Path) -> Bool:
    """A picture as H x W bool: at least half white. Raises DataError."""
    mask: Bool = _read_grey(path) >= 0.5
    return mask


def _read_grey(path: Path) -> Float64:
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE) if path.stat().st_size else None
    if pixels is None:
        raise DataError(f"{path} is not a picture")
    return np.asarray(pixels, np.float64) / 255


def _pictures(folder: Path) -> list[Path]:
    """The folder's pictures. Raises DataError when there are none, or two with one stem."""
    try:
        found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_EXTENSIONS]
    except OSError as error:
        raise DataError(f"{folder} cannot be searched: {error.strerror}") from error
    if not found:
        raise DataError(f"{folder} has no picture")
    for path, other in pairwise(sorted(found, key=lambda path: path.stem)):
        if path.stem == other.stem:
            raise DataError(f"{folder} has both {path.name} and {other.name}: which of the two is meant?")
    return found
