"""The training loop of both stages, over Lightning Fabric: devices, precision, accumulation, averaged weights,
checkpoints, validation. What is learnt is the job's business."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipelines.errors import EvsamError, SetupError, UsageError, WeightsError
from pipelines.files import check_folder, replacing
from pipelines.training.config import LoopConfig, OptimiserConfig
from pipelines.training.logs import TrainingLog
from pipelines.training.stopping import SignalsPutOff
from weights.loading import load_pickle

if TYPE_CHECKING:
    from pipelines.training.data import Batch

CHECKPOINT = "checkpoint.pt"


class DivergedError(EvsamError):
    """Training met a loss or gradient that is not a finite number."""

    exit_code = 1


@dataclass(frozen=True)
class Phase:
    """Steps that draw from one stream of batches. photos: per step, over all devices; batches(steps, rank, ranks):
    this device's batches of those steps, at most `photos_at_once` photos each; rate: multiplies the learning rate."""

    steps: range
    photos: int
    batches: Callable[[range, int, int], Iterable[Any]]
    rate: float = 1.0


@dataclass(frozen=True)
class TrainingJob:
    """learner: batch -> losses by name, of which "loss" is minimised; model: the network inside of it that is averaged,
    validated and exported; validate: averaged network -> figures by name, of which `best_by` chooses the best weights.
    told: notes, each with what it is of, that are still to be said; validate may add some.

    config: dataclass that the run depends on, to refuse a resumption under another one; loop: may change at resumption.
    """

    name: str
    config: Any
    model: nn.Module
    learner: nn.Module
    phases: tuple[Phase, ...]
    optimiser: OptimiserConfig
    loop: LoopConfig
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    best_by: str = ""
    told: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def fit(job: TrainingJob, folder: Path, *, resume: bool = False) -> dict[str, float]:
    """Train, or with `resume` go on from the checkpoint in `folder`; returns the best validation's figures.

    Writes to `folder`: checkpoint.pt, best.safetensors and last.safetensors (averaged weights, official layout),
    metrics.jsonl, and tensorboard/. SIGINT and SIGTERM act when the step is saved. Raises DivergedError on a non-finite
    loss or gradient; the last checkpoint is then kept as it was. Raises UsageError when the folder holds a run and
    `resume` is not given, or one of other settings, and when the devices cannot share the photos evenly.
    """
    for phase in job.phases:
        if phase.photos % job.loop.devices:
            raise UsageError(f"{phase.photos} photos per step cannot be shared evenly by {job.loop.devices} devices")
    check_run(job.loop, folder, resume=resume)
    fabric = _fabric(job.loop)
    fabric.launch()
    torch.backends.cudnn.benchmark = True  # a stage's shapes stay the same
    trainable = _parameter_groups(job.learner, job.optimiser.weight_decay)
    learner, adam = fabric.setup(job.learner, torch.optim.AdamW(trainable, lr=job.optimiser.learning_rate))
    average = AveragedModel(job.model, multi_avg_fn=get_ema_multi_avg_fn(job.optimiser.ema), use_buffers=True)
    run = _Run(job, folder, fabric, learner, adam, average.requires_grad_(False))
    first, last = run.restore(), job.phases[-1].steps.stop
    stop = SignalsPutOff(enabled=fabric.world_size == 1)
    with stop, TrainingLog(folder, job.name, first, last, enabled=fabric.is_global_zero) as log:
        log.tell(job.told)
        for phase in job.phases:
            steps = range(max(first, phase.steps.start), phase.steps.stop)
            batches = iter(phase.batches(steps, fabric.global_rank, fabric.world_size)) if steps else iter(())
            for step in steps:
                run.set_learning_rate(phase.rate * learning_rate(step, last, job.optimiser))
                log.add(run.take_step(batches, phase.photos, step))
                done = step + 1
                if done % job.loop.log_every == 0 or done == last:
                    log.write_mean(done)
                if job.validate and (done % job.loop.validate_every == 0 or done == last):
                    log.write(done, "validation", run.validate(job.validate, done))
                log.tell(job.told)
                if done % job.loop.checkpoint_every == 0 or done == last or stop.asked:
                    run.save(done)
                stop.act()
    return run.best


def check_run(loop: LoopConfig, folder: Path, *, resume: bool) -> None:
    """Raise UsageError when the folder holds a run and `resume` is not given, or there is no such device or precision,
    SetupError when the folder cannot be made."""
    if (folder / CHECKPOINT).exists() and not resume:
        raise UsageError(f"{folder} holds a run: go on with --resume, or name another folder")
    check_folder(folder)
    _fabric(loop)


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up, then a cosine to zero at `steps`."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    share = (step - config.warmup) / max(1, steps - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


@dataclass
class _Run:
    """The state of a run, and its ways to disk."""

    job: TrainingJob
    folder: Path
    fabric: Fabric
    learner: Any
    adam: Any
    average: AveragedModel
    best: dict[str, float] = dataclasses.field(default_factory=dict)

    def set_learning_rate(self, rate: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = rate

    def take_step(self, batches: Iterator[Batch], photos: int, step: int) -> dict[str, float]:
        """One optimiser step; returns the losses, averaged over its batches."""
        own = photos // self.fabric.world_size
        parts = -(-own // self.job.loop.photos_at_once)
        sums: dict[str, Tensor] = {}
        for part in range(parts):
            batch = self.fabric.to_device(next(batches))
            self.job.told.extend(getattr(batch, "told", ()))
            try:
                with self.fabric.no_backward_sync(self.learner, enabled=part < parts - 1):
                    losses = self.learner(batch)
                    self.fabric.backward(losses["loss"] / parts)
            except torch.cuda.OutOfMemoryError as error:
                raise SetupError("the GPU's memory does not suffice: lower [loop] photos_at_once") from error
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / parts
        norm = self.fabric.clip_gradients(
            self.learner, self.adam, max_norm=self.job.optimiser.clip, error_if_nonfinite=False
        )
        if norm is not None:
            sums["gradient"] = norm
        figures = dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))  # one wait for the device
        figures["learning_rate"] = self.adam.param_groups[0]["lr"]
        if not all(math.isfinite(value) for value in figures.values()):
            raise self._diverged(step, f"the losses are {figures}")
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.average.update_parameters(self.job.model)
        return figures

    def validate(self, figures_of: Callable[[nn.Module], dict[str, float]], step: int) -> dict[str, float]:
        """Validate the averaged weights on the first device; export them when they are the best so far."""
        figures: dict[str, float] = {}
        if self.fabric.is_global_zero:
            figures = figures_of(self.average.module)
            if figures[self.job.best_by] > self.best.get(self.job.best_by, -math.inf):
                self.best = {**figures, "step": step}
                self._export("best.safetensors", step)
        self.fabric.barrier()
        return figures

    def save(self, step: int) -> None:
        """Replace the checkpoint and the last averaged weights in one step each; what stops one device stops all."""
        fault = self.fabric.broadcast(self._write(step) if self.fabric.is_global_zero else None)
        if fault is not None:
            raise fault

    def _write(self, step: int) -> EvsamError | None:
        """Returns why it could not be done."""
        weights = self.job.model.state_dict()
        broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
        if broken:
            return self._diverged(step, f"{broken[0]} is no longer finite")
        state = {
            "step": step,
            "best": self.best,
            "config": _as_text(self.job),
            "model": weights,
            "average": self.average.state_dict(),
            "adam": self.adam.state_dict(),
        }
        try:
            with replacing(self.folder / CHECKPOINT) as path:
                torch.save(state, path)
            self._export("last.safetensors", step)
        except (OSError, RuntimeError) as error:
            return SetupError(f"{self.folder}: the checkpoint cannot be written ({error})")
        return None

    def saved(self) -> bool:
        return (self.folder / CHECKPOINT).is_file()

    def restore(self) -> int:
        """Load the checkpoint, if there is one; returns the step to go on with."""
        if not self.saved():
            return 0
        path = self.folder / CHECKPOINT
        try:
            state: Mapping[str, Any] = load_pickle(path)
            if state["config"] != _as_text(self.job):
                raise UsageError(
                    f"{self.folder} holds a run with other settings: go on with the same ones, or name another folder"
                )
            self.job.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.adam.load_state_dict(state["adam"])
            self.best = dict(state["best"])
            return int(state["step"])
        except (WeightsError, LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            fault = (
                "it is damaged, or another run's" if isinstance(error, WeightsError) else "it lacks what a run saves"
            )
            raise UsageError(f"{path} is not a checkpoint of this run ({fault}): delete it to start anew") from error

    def _diverged(self, step: int, sign: str) -> DivergedError:
        kept = f"{self.folder / CHECKPOINT} is the last good state" if self.saved() else "nothing was saved yet"
        return DivergedError(f"training diverged at step {step}: {sign}; {kept}; try a lower learning rate")

    def _export(self, name: str, step: int) -> None:
        state = {key: value.detach().cpu().contiguous() for key, value in self.average.module.state_dict().items()}
        with replacing(self.folder / name) as path:
            path.write_bytes(to_safetensors(state, {"model": self.job.name, "step": str(step)}))


def _fabric(loop: LoopConfig) -> Fabric:
    strategy = DDPStrategy(find_unused_parameters=True) if loop.devices > 1 else "auto"
    try:
        return Fabric(accelerator=loop.device, devices=loop.devices, strategy=strategy, precision=loop.precision)  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"cannot train on {loop.devices} x {loop.device!r} in {loop.precision!r}: {reason}") from error


def _parameter_groups(learner: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters; norms, biases and embeddings (one row) are not decayed."""
    trainable = [p for p in learner.parameters() if p.requires_grad]
    wide = [p for p in trainable if p.ndim > 1 and p.shape[0] > 1]
    narrow = [p for p in trainable if not (p.ndim > 1 and p.shape[0] > 1)]
    return [{"params": wide, "weight_decay": weight_decay}, {"params": narrow, "weight_decay": 0.0}]


def _as_text(job: TrainingJob) -> str:
    """The settings that decide the weights, as JSON: all but the loop's."""
    settings = {name: value for name, value in dataclasses.asdict(job.config).items() if name != "loop"}
    return json.dumps(settings, sort_keys=True)
