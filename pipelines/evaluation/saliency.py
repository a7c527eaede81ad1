"""Saliency maps scored by their mean absolute error, and a folder of masks as annotations to be prompted by.

MAE as in Perazzi et al., "Saliency Filters", CVPR 2012, section 4: the mean over pixels of |map - mask|, both 0 to 1,
then the mean over images. Masks are cut at half of full white.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines import rle
from pipelines.errors import DataError, UsageError
from pipelines.evaluation.annotations import GroundTruth, TruthImage, TruthObject
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.evaluate import Evaluation, evaluate
from pipelines.evaluation.predictions import Float64
from pipelines.evaluation.stamp import stamp_of_folders
from pipelines.files import make_folder, write_json, writing
from pipelines.images.sources import IMAGE_EXTENSIONS
from pipelines.names import pair
from pipelines.notes import counted_images
from pipelines.run import Watcher
from pipelines.types import Bool, Category

SALIENT = Category(1, "salient")


def read_masks(masks: Path, images: Path) -> tuple[GroundTruth, list[str]]:
    """A folder of masks as a truth with one object per image: its white region, none where nothing is white; and notes.

    A mask is a picture with the stem of its image. Raises DataError when the two folders do not fit together.
    """
    pairs, notes = _paired(masks, images, "image")
    listed: dict[int, TruthImage] = {}
    objects: dict[int, list[TruthObject]] = {}
    for number, (path, image) in enumerate(pairs, 1):
        mask = read_mask(path)
        listed[number] = TruthImage(number, image.name, mask.shape[1], mask.shape[0])
        objects[number] = [_white_region(number, mask)] if mask.any() else []
    truth = GroundTruth(masks, listed, objects, (SALIENT,))
    return truth, notes


def _paired(masks: Path, others: Path, noun: str) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Each mask with the picture of another folder that belongs to it, and notes. Raises DataError for one without."""
    ours, theirs = ({path.name: path for path in _pictures(folder)} for folder in (masks, others))
    pairing = pair(ours, theirs)
    for name in ours:
        if name not in pairing.found:
            raise DataError(f"{others} has no {noun} for the mask {name}")
    notes = pairing.notes(str(others))
    unused = [name for name in theirs if name not in pairing.found.values()]
    if unused:
        notes.append(f"{noun}s of {others} have no mask and are not scored: {counted_images(unused)}")
    return [(ours[name], theirs[other]) for name, other in pairing.found.items()], notes


def _white_region(number: int, mask: Bool) -> TruthObject:
    shape = rle.encode(mask)
    x, y, w, h = rle.bbox(shape)
    return TruthObject(number, SALIENT.id, (x, y, w, h), float(rle.area(shape)), shape, False)


def mean_absolute_error(masks: Path, maps: Path) -> tuple[Mapping[str, float], list[str]]:
    """Mask name -> MAE, 0 to 1, of the map with its stem; and notes.

    Raises DataError when a map is missing or of another size.
    """
    pairs, notes = _paired(masks, maps, "map")
    errors = {}
    for path, other in pairs:
        given, wanted = _read_grey(other), read_mask(path)
        if given.shape != wanted.shape:
            raise DataError(f"{other} is not of the size of {path}")
        errors[path.name] = float(np.abs(given - wanted).mean())
    return errors, notes


def evaluate_maps(masks: Path, maps: Path, *, output: Path | None = None) -> dict[str, Any]:
    """Metrics, notes and stamp of a folder of maps. output: folder for `saliency.json`, which also has each image's
    error."""
    if output:
        make_folder(output)
    errors, notes = mean_absolute_error(masks, maps)
    document = {
        "metrics": {"MAE": float(np.mean(list(errors.values()))), "images": len(errors)},
        "images": dict(errors),
        "notes": notes,
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
    truth, notes = read_masks(config.annotations, config.images)
    evaluation = evaluate(config, watch, truth=truth)
    evaluation = replace(evaluation, notes=[*notes, *evaluation.notes])
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
