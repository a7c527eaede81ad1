"""From data sets to batches. Sample (step, index) is made by a generator seeded with (seed, step, index) alone, so a
resumed run, another number of workers or of devices sees the same samples."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipelines.errors import DataError
from pipelines.training.augment import change_colour, cut_out, draw_view, paste
from pipelines.training.config import DataConfig, FinetuneConfig, LoopConfig, StageConfig
from pipelines.training.photo_cache import PhotoCache
from pipelines.training.prompts import bounding_boxes, draw_points, jitter_boxes
from pipelines.training.regions import Photo, Region
from pipelines.training.sources import DataSource, open_source
from pipelines.types import Bool, Float32, UInt8

_LEAST_AREA = 6 * 255  # of a low-res mask; what is smaller cannot be learnt from
_TRIES = 50
_MOST_PASTED = 3
_SAMPLE, _STEP = 0, 1  # streams of random numbers: one sample's own, and what all samples of a step share

Item = TypeVar("Item")


class Batch(NamedTuple):
    """B photos and the prompts of all of them. Tensors, S the input's side, L the low-res masks' side:

    pixels: B x S x S x 3 uint8, RGB; sizes: B x 2, height and width without the padding; masks: N x L x L uint8,
    coverage times 255; boxes: N x 4, points: N x K x 2, in the 1024 frame, inside each mask; is_box: N bool, which of
    the two is the prompt; photo: N, the number of each one's photo. seed: for what is drawn on the device. told: notes
    of photos, each with the photo's name.
    """

    pixels: Tensor
    sizes: Tensor
    masks: Tensor
    boxes: Tensor
    points: Tensor
    is_box: Tensor
    photo: Tensor
    step: int
    seed: int
    told: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Sample:
    """One photo of a Batch, as arrays."""

    pixels: UInt8
    size: tuple[int, int]
    masks: UInt8
    boxes: Float32
    points: Float32
    is_box: Bool
    step: int
    seed: int
    told: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Drawn:
    """A photo: its pixels, perhaps shrunk, its original height and width, and its regions but for crowds."""

    photo: Photo
    pixels: UInt8
    size: tuple[int, int]
    regions: list[Region]

    def mask(self, number: int) -> UInt8:
        """A region, 0 to 255, at the size of `pixels`."""
        mask = self.photo.mask(self.regions[number], *self.size).astype(np.uint8) * 255
        height, width = self.pixels.shape[:2]
        if mask.shape == (height, width):
            return mask
        return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


class TrainingSet(Dataset[Sample]):
    """Samples by (step, index). A data set is drawn by weight, then a photo of it, then instances of the photo."""

    def __init__(
        self,
        sources: Sequence[DataSource],
        config: FinetuneConfig,
        stage: StageConfig,
        low: int,
        *,
        squeezes: bool = False,
    ) -> None:
        """low: side of the network's low-res masks at this stage's size. squeezes: whether it sees images fill its
        square input."""
        self.sources = sources
        weights = np.array([data.weight for data in config.data])
        self._chances = weights / weights.sum()
        self._config = config
        self._stage = stage
        self._low = low
        self._squeezes = squeezes
        least, most = config.augment.scale
        self._scale = least * stage.zoom, most * stage.zoom
        self._photos = PhotoCache(round(stage.size * max(1.0, self._scale[1])), config.loop.cache_gb * 1e9)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        step, index = key
        rng = np.random.default_rng([self._config.seed, _SAMPLE, step, index])
        for _ in range(_TRIES):
            picture, masks = self._view(rng)
            masks, low = self._visible(rng, masks)
            if masks:
                return self._sample(rng, picture, np.stack(masks), np.stack(low), step)
        names = ", ".join(source.name for source in self.sources)
        raise DataError(f"{_TRIES} photos in a row had no usable mask: check the annotations of {names}")

    def _draw(self, rng: np.random.Generator) -> _Drawn:
        """A photo, and its regions in random order."""
        source = self.sources[int(rng.choice(len(self.sources), p=self._chances))]
        photo = source[int(rng.integers(len(source)))]
        regions = [region for region in photo.regions if not region.crowd]
        pixels, size = self._photos(photo)
        return _Drawn(photo, pixels, size, [regions[i] for i in rng.permutation(len(regions))])

    def _view(self, rng: np.random.Generator) -> tuple[UInt8, list[UInt8]]:
        """A cropped, flipped, coloured photo with pasted instances, and the masks of up to `masks` instances in it."""
        augment, limit = self._config.augment, self._stage.masks
        drawn = self._draw(rng)
        focus = drawn.mask(0) if drawn.regions else np.zeros((1, 1), np.uint8)
        inside = np.flatnonzero(focus > 127)
        if not len(inside):
            return drawn.pixels, []
        y, x = divmod(int(rng.choice(inside)), focus.shape[1])
        view = draw_view(rng, focus.shape, (x, y), self._stage.size, self._scale, augment.flip)
        if self._squeezes:
            view = replace(view, width=self._stage.size, height=self._stage.size)
        masks = [view(focus)]
        for i in range(1, min(2 * limit, len(drawn.regions))):  # more than needed: some lie outside of the crop
            mask = view(drawn.mask(i))
            if len(masks) < limit and mask.max() > 127:
                masks.append(mask)
        picture = view(drawn.pixels)
        if rng.random() < augment.colour:
            picture = change_colour(rng, picture)
        if rng.random() < augment.paste:
            picture, masks = self._paste(rng, picture, masks)
        return picture, masks

    def _paste(self, rng: np.random.Generator, picture: UInt8, masks: list[UInt8]) -> tuple[UInt8, list[UInt8]]:
        drawn = self._draw(rng)
        pixels = change_colour(rng, drawn.pixels) if rng.random() < self._config.augment.colour else drawn.pixels
        for i in range(min(int(rng.integers(1, _MOST_PASTED + 1)), len(drawn.regions))):
            mask = drawn.mask(i) > 127
            if mask.any():
                picture, masks = paste(rng, picture, masks, *cut_out(pixels, mask))
        return picture, masks

    def _visible(self, rng: np.random.Generator, masks: list[UInt8]) -> tuple[list[UInt8], list[UInt8]]:
        """Masks padded to the input's square, and low-res: up to `masks` of those that are large enough to see."""
        side = self._stage.size
        kept: list[UInt8] = []
        low: list[UInt8] = []
        for i in rng.permutation(len(masks)):
            square = _pad(masks[i], side)
            small = cv2.resize(square, (self._low, self._low), interpolation=cv2.INTER_AREA).astype(np.uint8)
            if len(kept) < self._stage.masks and int(small.sum()) >= _LEAST_AREA and small.max() > 127:
                kept.append(square)
                low.append(small)
        return kept, low

    def _sample(self, rng: np.random.Generator, picture: UInt8, masks: UInt8, low: UInt8, step: int) -> Sample:
        prompts = self._config.prompts
        step_rng = np.random.default_rng([self._config.seed, _STEP, step])
        count = int(step_rng.integers(1, prompts.points + 1))  # the same for all prompts of a step: no padding
        return Sample(
            pixels=_pad(picture, self._stage.size),
            size=picture.shape[:2],
            masks=low,
            boxes=jitter_boxes(rng, bounding_boxes(masks), prompts.box_jitter),
            points=draw_points(rng, masks, count),
            is_box=rng.random(len(masks)) < prompts.box,
            step=step,
            seed=int(rng.integers(2**31)),
            told=self._told(),
        )

    def _told(self) -> tuple[tuple[str, str], ...]:
        told = tuple(self._photos.told)
        self._photos.told.clear()
        return told


def _pad(array: UInt8, side: int) -> UInt8:
    """Zero-pad H x W (x 3) at the bottom and right to side x side (x 3)."""
    out = np.zeros((side, side, *array.shape[2:]), np.uint8)
    out[: array.shape[0], : array.shape[1]] = array
    return out


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one step -> a Batch."""
    return Batch(
        pixels=torch.from_numpy(np.stack([s.pixels for s in samples])),
        sizes=torch.tensor([s.size for s in samples]),
        masks=torch.from_numpy(np.concatenate([s.masks for s in samples])),
        boxes=torch.from_numpy(np.concatenate([s.boxes for s in samples])),
        points=torch.from_numpy(np.concatenate([s.points for s in samples])),
        is_box=torch.from_numpy(np.concatenate([s.is_box for s in samples])),
        photo=torch.arange(len(samples)).repeat_interleave(torch.tensor([len(s.masks) for s in samples])),
        step=samples[0].step,
        seed=samples[0].seed,
        told=tuple(note for sample in samples for note in sample.told),
    )


@dataclass(frozen=True)
class Keys:
    """Which samples one device works through, in batches: each step's photos are dealt to the devices in turn."""

    steps: range
    photos: int
    photos_at_once: int
    rank: int = 0
    ranks: int = 1

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            own = [(step, index) for index in range(self.rank, self.photos, self.ranks)]
            for start in range(0, len(own), self.photos_at_once):
                yield own[start : start + self.photos_at_once]


def batches(
    dataset: Dataset[Item], keys: Keys, loop: LoopConfig, collate: Callable[[list[Item]], Any]
) -> Iterator[Any]:
    """Batches of `dataset` in the order of `keys`, made by `loop.workers` processes."""
    loader = DataLoader(
        dataset,
        batch_sampler=keys,
        num_workers=loop.workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_set_up_worker,
        multiprocessing_context=worker_context() if loop.workers else None,
    )
    try:
        yield from loader
    except DataError as error:  # from a worker it brings its traceback as text, which ends with the message
        raise DataError(str(error).rpartition(f"{DataError.__name__}: ")[2].strip()) from error


def worker_context() -> BaseContext:
    """How workers start: a plain fork hangs once this process has run OpenMP or OpenCV threads. The server that forks
    instead has what workers need imported: they start one after another, and each would take seconds for it."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _set_up_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all; the main process ends its workers
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def open_sources(data: Sequence[DataConfig]) -> list[DataSource]:
    """The data sets of a run. Raises DataError when there is none."""
    if not data:
        raise DataError("no training data: give --data PATH, or [[data]] in the recipe")
    return [open_source(Path(d.path), Path(d.images) if d.images else None) for d in data]
