"""A search for all that is in an image: its crops one by one, what is asked in each, and what is left of it all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from pipelines.attempts import FAULTS, failure
from pipelines.categories import OBJECT
from pipelines.errors import ImageError
from pipelines.everything.config import GridConfig
from pipelines.everything.crops import Crop, crops, points_per_side
from pipelines.everything.filters import outer_pixels, suppress
from pipelines.everything.funnel import Funnel
from pipelines.everything.instances import BLANK, is_blank, join, replace_masks, take
from pipelines.run import Finish, Result, settled
from pipelines.run.stages import StageClock
from pipelines.sam.encoded import Encoded, Tell
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.regions import without_small_regions
from pipelines.segment import Ready, encode_images, make_ready
from pipelines.types import Category, Detections, Float32, Image, Instances


@dataclass(frozen=True)
class Part:
    """A crop of an image, ready for prompts. tell: told of the prompts decoded."""

    image: Image
    crop: Crop
    encoded: Encoded
    tell: Tell


Ask = Callable[[Part, Any, Funnel], Instances]
"""(part, config, funnel) -> the masks in it, in the image's frame. The funnel is told what the filters do."""


def nothing_in(image: Image) -> Instances:
    """Of an image of one colour."""
    return replace(join([]), detections=Detections.empty(BLANK))


@dataclass(frozen=True)
class SearchJob:
    """A search through each image alone. search: (image, encoded, clock) -> what gives its instances. nothing: those of
    an image of one colour, which is not searched.
    """

    sam: SamPredictor
    search: Callable[[Image, Encoded, StageClock], Finish]
    nothing: Callable[[Image], Instances] = nothing_in

    categories: tuple[Category, ...] = (OBJECT,)

    @property
    def batch(self) -> int:
        return self.sam.batch

    def report(self) -> Mapping[str, Any]:
        return {}

    def prepare(self, image: Image) -> Ready:
        return make_ready(self.sam, image)

    def __call__(self, images: Sequence[Ready], clock: StageClock) -> Iterator[Finish]:
        searched = [ready for ready in images if not is_blank(ready.image)]
        encoded = dict(zip(map(id, searched), encode_images(self.sam, searched, clock), strict=True))
        for ready in images:
            found = encoded.get(id(ready))
            yield settled(self.nothing(ready.image)) if found is None else self._search(ready.image, found, clock)

    def _search(self, image: Image, encoded: Encoded | ImageError, clock: StageClock) -> Finish:
        if isinstance(encoded, ImageError):
            return settled(encoded)
        try:
            return self.search(image, encoded, clock)
        except FAULTS as error:
            return settled(failure(image, error, ": fewer --points-per-batch need less"))


def search_job(sam: SamPredictor, config: GridConfig, ask: Ask) -> SearchJob:
    """A search by clicks."""
    return SearchJob(sam, partial(search, sam=sam, config=config, ask=ask))


def search(
    image: Image, encoded: Encoded, clock: StageClock, *, sam: SamPredictor, config: GridConfig, ask: Ask
) -> Finish:
    """What `ask` finds in each crop of the image, every thing once; smaller crops go before larger ones, as they see
    more. encoded: the whole image, which is the first crop.
    """
    parts, funnel = [], Funnel()
    places = crops(image.height, image.width, config)
    tell = clock.counter([(image.name, sum(points_per_side(crop, config) ** 2 for crop in places))])
    for crop in places:
        if crop.layer:
            with clock("encode"):
                pixels = image.pixels[crop.y0 : crop.y1, crop.x0 : crop.x1]
                encoded = sam.encode([sam.prepare(np.ascontiguousarray(pixels))])
        with clock("decode"):
            found = ask(Part(image, crop, encoded, tell), config, funnel)
            kept = suppress(outer_pixels(found), found.detections.scores, config.box_nms_thresh, sam.device)
            parts.append(take(found, kept))
    return partial(_finish, image, parts, config, funnel, sam.device, clock)


def _finish(
    image: Image,
    parts: Sequence[Instances],
    config: GridConfig,
    funnel: Funnel,
    device: torch.device,
    clock: StageClock,
) -> Result:
    """The masks of all crops, every thing once, and cleaned."""
    try:
        with clock("filter"):
            found = join(parts)
            if not len(found):
                return replace(found, detections=Detections.empty(funnel.why_none(config)))
            if len(parts) > 1:
                kept = suppress(outer_pixels(found), 1 / _crop_areas(found), config.crop_nms_thresh, device)
                found = take(found, kept)
            return _clean(found, config, device) if config.min_mask_region_area else found
    except FAULTS as error:
        return failure(image, error)


def _crop_areas(found: Instances) -> Float32:
    assert found.clicks is not None
    sides = found.clicks.crop_boxes[:, 2:] - found.clicks.crop_boxes[:, :2]
    areas: Float32 = sides.prod(axis=1)
    return areas


def _clean(found: Instances, config: GridConfig, device: torch.device) -> Instances:
    """Without small holes and islands; of masks that this makes alike, one that needed no change stays."""
    rles = [without_small_regions(mask, config.min_mask_region_area) for mask in found.rles]
    unchanged = [new is old for new, old in zip(rles, found.rles, strict=True)]
    cleaned = replace_masks(found, rles)
    overlap = max(config.box_nms_thresh, config.crop_nms_thresh)
    return take(cleaned, suppress(outer_pixels(cleaned), unchanged, overlap, device))
