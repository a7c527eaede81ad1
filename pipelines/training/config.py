"""What a training run is told, as `recipe` reads it from a TOML file. Defaults are the paper's where it has any.

Paper: EfficientViT-SAM, arXiv 2402.05008, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipelines import cores
from pipelines.errors import UsageError
from pipelines.limits import (
    AMOUNT,
    COUNT,
    FACTOR,
    FEW,
    POSITIVE,
    SEED,
    SHARE,
    SIDE,
    TIMES,
    WORKERS,
    keep_within,
)

MOST_WORKERS = 8
PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
"""The parts of the network that can be frozen, each as a whole or by the name of a module in it."""


@dataclass(frozen=True)
class DataConfig:
    """One data set. path: see `sources.open_source`; images: folder of its photos, when not beside the annotations;
    weight: how often it is drawn from, relative to the others."""

    path: str
    images: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.path or self.images == "":
            raise UsageError("a data set's path is none: it is empty: was a shell variable not set?")
        if not POSITIVE.least <= self.weight <= POSITIVE.most:
            raise UsageError(f"data set {self.path}: its weight is {self.weight:g}, but must be {POSITIVE.words}")


@dataclass(frozen=True)
class StageConfig:
    """A part of the run. size: side of the network's square input, pixels; photos: per optimiser step, over all
    devices; masks: prompts per photo, at most; length: `steps`, or `epochs` (as many photos as the data sets hold).

    focal, bce, near, dice: weights of the terms of `losses.mask_loss`; rate: multiplies the run's learning rate.
    zoom: multiplies `AugmentConfig.scale`; 2 at half the input size shows objects as large as 1 at the whole.
    window: a crop smaller than the network's input stands for a part of it, see `window.py`, and not for all of it.
    """

    size: int
    photos: int
    masks: int = 64
    steps: int | None = None
    epochs: float | None = None
    focal: float = 20.0
    bce: float = 0.0
    near: float = 0.0
    dice: float = 1.0
    rate: float = 1.0
    zoom: float = 1.0
    window: bool = False

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UsageError("a stage has either steps or epochs")
        keep_within(
            self, size=SIDE, photos=COUNT, masks=COUNT, steps=COUNT, epochs=POSITIVE, rate=POSITIVE, zoom=FACTOR
        )
        keep_within(self, focal=AMOUNT, bce=AMOUNT, near=AMOUNT, dice=AMOUNT)


@dataclass(frozen=True)
class AugmentConfig:
    """scale: range of the magnification over fitting the whole photo into the input, drawn log-uniformly (above 1
    crops). flip, colour, paste: chances of a mirrored photo, a colour change, and instances pasted from another."""

    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    colour: float = 0.0
    paste: float = 0.0

    def __post_init__(self) -> None:
        keep_within(self, flip=SHARE, colour=SHARE, paste=SHARE)
        least, most = self.scale
        if not FACTOR.least <= least <= most <= FACTOR.most:
            raise UsageError(
                f"scale goes from {least:g} to {most:g}: give two numbers above 0, the smaller one first, "
                f"{FACTOR.words}"
            )


@dataclass(frozen=True)
class PromptMix:
    """box: chance of a box instead of points; box_jitter: standard deviation of a box's noise as a share of its sides
    (at most 20 px in the 1024 frame, as in SAM); points: most points of a prompt; corrections: rounds of one
    correction point each, made at two steps in a row of every 2 * `correct_every`; mask: chance that a round is given
    the mask that it corrects (always in SAM) along with the prompts so far, and not these alone."""

    box: float = 0.5
    box_jitter: float = 0.1
    points: int = 10
    corrections: int = 0
    correct_every: int = 1
    mask: float = 1.0

    def __post_init__(self) -> None:
        keep_within(self, box=SHARE, box_jitter=AMOUNT, points=COUNT, corrections=TIMES, correct_every=COUNT)
        keep_within(self, mask=SHARE)


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with linear warm-up and cosine decay to zero. clip: largest gradient norm; ema: decay of the averaged
    weights, which are those that are validated and exported."""

    learning_rate: float = 2e-6
    weight_decay: float = 0.01
    warmup: int = 0
    clip: float = 1.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        keep_within(self, learning_rate=POSITIVE, weight_decay=AMOUNT, warmup=TIMES, clip=POSITIVE, ema=SHARE)


def usual_workers() -> int:
    """Processes that read photos: one for each core that this process may use, as long as they are few."""
    return min(cores.usable(), MOST_WORKERS)


@dataclass(frozen=True)
class LoopConfig:
    """How the machine is used and how often things happen, in optimiser steps. photos_at_once: per device and forward
    pass; what is missing to a stage's photos is accumulated. workers: processes that read photos, 0 for none beside
    this one. cache_gb: memory for decoded photos, per worker."""

    device: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    photos_at_once: int = 8
    workers: int = field(default_factory=usual_workers)
    cache_gb: float = 1.0
    log_every: int = 20
    checkpoint_every: int = 500
    validate_every: int = 1000

    def __post_init__(self) -> None:
        keep_within(self, devices=FEW, photos_at_once=COUNT, workers=WORKERS, cache_gb=AMOUNT)
        keep_within(self, log_every=COUNT, checkpoint_every=COUNT, validate_every=COUNT)


@dataclass(frozen=True)
class FinetuneConfig:
    """Stage 2: the whole network on photos with masks. weights: checkpoint to start from; "" starts from nothing,
    None from the model's own. validation_photos: photos of the validation set that are used, at most.

    freeze: what stays as it is, of `PARTS` or modules of them, such as "mask_decoder.transformer". single_mask:
    "alternate" trains the single-mask token and the three multi-mask tokens at alternate steps, as in the paper; "both"
    trains all four at every step. relaxed: share of the mask loss that all three multi-mask outputs get alike (arXiv
    1612.00197, section 3.2); the rest goes to the best of them, in the paper all of it.
    """

    model: str
    stages: tuple[StageConfig, ...]
    weights: str | None = None
    data: tuple[DataConfig, ...] = ()
    validation: DataConfig | None = None
    validation_photos: int = 500
    freeze: tuple[str, ...] = ()
    single_mask: str = "alternate"
    relaxed: float = 0.0
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    prompts: PromptMix = field(default_factory=PromptMix)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        unknown = {name for name in self.freeze if name.split(".")[0] not in PARTS}
        if unknown:
            raise UsageError(f"cannot freeze {', '.join(sorted(unknown))}; the parts are: {', '.join(PARTS)}")
        if not self.stages:
            raise UsageError("a run needs at least one stage")
        if self.single_mask not in ("alternate", "both"):
            raise UsageError(f"single_mask is 'alternate' or 'both', not {self.single_mask!r}")
        keep_within(self, relaxed=SHARE, validation_photos=COUNT, seed=SEED)


@dataclass(frozen=True)
class DistillConfig:
    """Stage 1: a student's image encoder learns a teacher's image embeddings. teacher: any SAM of `list_sams()`."""

    model: str
    teacher: str
    steps: int
    photos: int
    weights: str | None = ""
    teacher_weights: str | None = None
    data: tuple[DataConfig, ...] = ()
    seed: int = 0
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(learning_rate=1e-3))
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        keep_within(self, steps=COUNT, photos=COUNT, seed=SEED)


@dataclass(frozen=True)
class YoloConfig:
    """A YOLO detector on the same masks. model: "yolov8n" to "yolov8x"; weights: a .pt to start from, "" for a random
    start, None for the model's own; class_aware: keep the data's classes, told apart by name; else everything is
    "object". precision: "32-true" or "bf16-mixed", the network's; options: more arguments of ultralytics' trainer.
    """

    model: str
    epochs: int
    size: int = 640
    batch: int = 16
    weights: str | None = None
    data: tuple[DataConfig, ...] = ()
    validation: DataConfig | None = None
    class_aware: bool = False
    device: str = "auto"
    precision: str = "32-true"
    workers: int = field(default_factory=usual_workers)
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.precision not in ("32-true", "bf16-mixed"):
            raise UsageError(f"a detector's precision is 32-true or bf16-mixed, not {self.precision!r}")
        keep_within(self, epochs=COUNT, size=SIDE, batch=COUNT, workers=WORKERS, seed=SEED)
