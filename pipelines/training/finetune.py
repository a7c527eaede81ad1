"""Stage 2 of EfficientViT-SAM's training (arXiv 2402.05008, section 3.2): the whole network, end to end, on masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.errors import UsageError, WeightsError
from pipelines.sam import SAMS
from pipelines.sam.frame import MEAN, STD
from pipelines.sam.model import Features, Sam, load
from pipelines.sam.network import SamSource
from pipelines.training import engine
from pipelines.training.config import FinetuneConfig, PromptMix, StageConfig
from pipelines.training.data import Batch, Keys, TrainingSet, batches, collate, open_sources
from pipelines.training.depthwise import keep_depthwise_precise
from pipelines.training.losses import mask_iou, mask_loss
from pipelines.training.prompts import correction_points
from pipelines.training.sources import DataSource, open_source
from pipelines.training.validation import check_objects, mean_ious
from pipelines.training.window import CELLS, Window, draw_window


def run(config: FinetuneConfig, folder: Path, *, resume: bool = False, model: Sam | None = None) -> dict[str, float]:
    """Fine-tune, or with `resume` go on with the run in `folder` (see `engine.fit`). model: trained instead of the
    named one.

    Returns the best validation's figures. Raises UsageError for settings, and DataError for data, that cannot be used.
    """
    engine.check_run(config.loop, folder, resume=resume)
    sources = open_sources(config.data)
    given, model = model, model or untrained(config.model, config.weights)
    freeze(model, config.freeze)
    check_prompts(model, config.prompts)
    stages = [(_steps(stage, sources), stage) for stage in config.stages]
    told = [(note, source.name) for source in sources for note in source.notes]
    validate = None
    if config.validation:
        held_out = open_source(Path(config.validation.path), _folder(config.validation.images))
        check_objects(held_out, config.validation_photos)
        told += [(note, held_out.name) for note in held_out.notes]
        validate = partial(
            mean_ious, source=held_out, photos=config.validation_photos, size=model.input_size, told=told
        )
    phases = tuple(_phases(stages, sources, config, model))
    if given is None:
        load_start(model, config.model, config.weights)
    job = engine.TrainingJob(
        name=config.model,
        config=config,
        model=model,
        learner=Learner(model, config, stages),
        phases=phases,
        optimiser=config.optimiser,
        loop=config.loop,
        validate=validate,
        best_by="box_miou",
        told=told,
    )
    return engine.fit(job, folder, resume=resume)


def starting_model(name: str, weights: str | None) -> Sam:
    """The trainable network called `name`. weights: a checkpoint, "" for a random start, None for the model's own."""
    return load_start(untrained(name, weights), name, weights)


def untrained(name: str, weights: str | None) -> Sam:
    """The network called `name` before it is loaded. Raises what is wrong with the name or the checkpoint's."""
    row = SAMS[name]
    if weights and not Path(weights).is_file():
        raise WeightsError(f"there is no checkpoint {weights}")
    return SamSource(row).build()


def load_start(model: Sam, name: str, weights: str | None) -> Sam:
    """Fill it with what it starts from, see `starting_model`."""
    if weights == "":
        return model
    return load(model, SamSource(SAMS[name], None if weights is None else Path(weights)).state(), name)


def freeze(model: Sam, names: Sequence[str]) -> None:
    """Take modules of `model` out of training. Raises UsageError when there is no such module, or nothing else."""
    for name in names:
        try:
            model.get_submodule(name).requires_grad_(False)
        except AttributeError as error:
            raise UsageError(f"cannot freeze {name}: the network has no such part ({error})") from error
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(f"nothing is left to train when {', '.join(names)} are frozen")


@torch.no_grad()
def check_prompts(model: Sam, prompts: PromptMix) -> None:
    """Raise UsageError when there can be prompts that the network does not take."""
    boxes, more = torch.zeros(1, 4), torch.zeros(1, prompts.corrections, 2)
    points = torch.zeros(1, prompts.points + prompts.corrections, 2)
    if prompts.box > 0:
        model.prompt_encoder(more, torch.ones(more.shape[:2]), boxes)
    if prompts.box < 1:
        model.prompt_encoder(points, torch.ones(points.shape[:2]))
    if prompts.corrections and prompts.mask:
        model.prompt_encoder(boxes=boxes, masks=torch.zeros(1, 1, 8, 8))


class Learner(nn.Module):
    """Batch -> losses."""

    def __init__(self, model: Sam, config: FinetuneConfig, stages: Sequence[tuple[int, StageConfig]]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.model = model
        self.model.image_encoder.to(memory_format=torch.channels_last)
        keep_depthwise_precise(self.model.image_encoder)
        self.config = config
        self.stages = stages
        self.register_buffer("mean", torch.tensor(MEAN) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD) * 255, persistent=False)
        self.train()

    def train(self, mode: bool = True) -> Learner:
        """Frozen parts stay in inference mode: their batch norms keep their statistics."""
        super().train(mode)
        for part in self.config.freeze:
            self.model.get_submodule(part).eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses by name: "loss" and its parts "mask" and "iou". "box_iou" and "point_iou", the chosen masks' mean
        IoU, are for the log."""
        with torch.set_grad_enabled("image_encoder" not in self.config.freeze):
            features = self.model.encode(normalise(batch.pixels, batch.sizes, self.mean, self.std))
        target = batch.masks.float() / 255
        generator = torch.Generator(target.device).manual_seed(batch.seed)
        window = draw_window(features[0].shape[-1], generator) if self._stage(batch.step).window else None
        sums: dict[str, Tensor] = {}
        for name, rows in (("box", batch.is_box.nonzero()[:, 0]), ("point", (~batch.is_box).nonzero()[:, 0])):
            if not len(rows):
                continue
            prompts = {"boxes": batch.boxes[rows]} if name == "box" else {"points": batch.points[rows]}
            mask, iou, reached = self._rounds(features, window, batch, rows, target[rows], generator, **prompts)
            share = len(rows) / len(target)
            sums["mask"] = sums.get("mask", 0) + share * mask
            sums["iou"] = sums.get("iou", 0) + share * iou
            sums[f"{name}_iou"] = reached
        return {"loss": sums["mask"] + sums["iou"], **{name: value.detach() for name, value in sums.items()}}

    def _rounds(
        self,
        features: Features,
        window: Window | None,
        batch: Batch,
        rows: Tensor,
        target: Tensor,
        generator: torch.Generator,
        points: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The prompt, then corrections of the chosen mask: mask loss and IoU loss, and the first round's mean IoU."""
        labels = None if points is None else points.new_ones(points.shape[:2])
        previous: Tensor | None = None
        mask_losses, iou_losses, reached = [], [], []
        chances = np.random.default_rng(batch.seed).random(self._round_count(batch.step))
        for chance in chances:
            if previous is not None:
                point, label = correction_points(previous[:, 0] > 0, target > 0.5, generator)
                points = point if points is None else torch.cat([points, point], dim=1)
                labels = label.to(point) if labels is None else torch.cat([labels, label.to(point)], dim=1)
            hint = previous if chance < self.config.prompts.mask else None
            low, scores = self._decode(features, window, batch.photo[rows], points, labels, boxes, hint)
            actual = mask_iou(low, target)
            mask, iou = self._losses(mask_loss(low, target, self._stage(batch.step)), scores, actual, batch.step)
            mask_losses.append(mask)
            iou_losses.append(iou)
            best = scores.detach()[:, 1:].argmax(1) + 1
            each = torch.arange(len(low), device=low.device)
            reached.append(actual[each, best].mean())
            previous = low.detach()[each, best][:, None]
        return torch.stack(mask_losses).mean(), torch.stack(iou_losses).mean(), reached[0]

    def _decode(
        self,
        features: Features,
        window: Window | None,
        index: Tensor,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        previous: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Low-res logits n x 4 x L x L and predicted IoU n x 4, float32."""
        if window is None:
            pe = self.model.prompt_encoder.dense_pe(features[0].shape[-1])
        else:
            pe = window.positions(self.model.prompt_encoder.dense_pe(CELLS))
            points, boxes = (None if given is None else window.place(given) for given in (points, boxes))
        low, scores = self.model.decode(features, self.model.prompt_encoder(points, labels, boxes, previous), pe, index)
        return low.float(), scores.float()

    def _losses(self, losses: Tensor, scores: Tensor, actual: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Of the three multi-mask outputs the lowest loss counts, and all three for the share `relaxed`; token 0 is the
        single mask."""
        single, three = losses[:, 0].mean(), losses[:, 1:]
        multi = torch.lerp(three.min(1).values, three.mean(1), self.config.relaxed).mean()
        errors = F.mse_loss(scores, actual, reduction="none")
        if self.config.single_mask == "both":
            return single + multi, errors.mean()
        return (multi, errors[:, 1:].mean()) if step % 2 == 0 else (single, errors[:, 0].mean())

    def _stage(self, step: int) -> StageConfig:
        for steps, stage in self.stages:
            if step < steps:
                return stage
            step -= steps
        raise IndexError(f"step {step} lies behind the last stage")

    def _round_count(self, step: int) -> int:
        prompts = self.config.prompts
        return 1 + (prompts.corrections if step // 2 % prompts.correct_every == 0 else 0)


def normalise(pixels: Tensor, sizes: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """B x S x S x 3 uint8 -> B x 3 x S x S float32 (channels last); what lies outside of `sizes` becomes zero."""
    side = pixels.shape[1]
    at = torch.arange(side, device=pixels.device)
    inside = (at[:, None] < sizes[:, 0, None, None]) & (at < sizes[:, 1, None, None])
    return (((pixels - mean) / std) * inside[..., None]).permute(0, 3, 1, 2)


def _steps(stage: StageConfig, sources: Sequence[DataSource]) -> int:
    if stage.epochs is None:
        return stage.steps or 0
    return math.ceil(stage.epochs * sum(len(source) for source in sources) / stage.photos)


def _phases(
    stages: Sequence[tuple[int, StageConfig]], sources: Sequence[DataSource], config: FinetuneConfig, model: Sam
) -> Iterator[engine.Phase]:
    start = 0
    for steps, stage in stages:
        if stage.size * 64 % model.input_size or stage.size % model.multiple or stage.size > model.input_size:
            sizes = f"multiples of {model.multiple} up to " if model.multiple < model.input_size else ""
            raise UsageError(f"size {stage.size}: {config.model} trains at {sizes}{model.input_size}")
        low = 4 * 64 * stage.size // model.input_size
        samples = TrainingSet(sources, config, stage, low, squeezes=model.conventions.fit.squeezes)
        stream = partial(_stream, samples, stage, config)
        yield engine.Phase(range(start, start + steps), stage.photos, stream, stage.rate)
        start += steps


def _stream(
    samples: TrainingSet, stage: StageConfig, config: FinetuneConfig, steps: range, rank: int, ranks: int
) -> Iterator[Batch]:
    keys = Keys(steps, stage.photos, config.loop.photos_at_once, rank, ranks)
    return batches(samples, keys, config.loop, collate)


def _folder(path: str | None) -> Path | None:
    return Path(path) if path else None
