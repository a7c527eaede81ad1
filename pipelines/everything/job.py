"""Segment everything: a strategy for every image of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipelines.detectors import check_detector, detector_sha256
from pipelines.everything import STRATEGIES
from pipelines.everything.config import GridConfig, ObjectsConfig, StrategyConfig
from pipelines.run import Job, RunConfig, Summary, Watcher
from pipelines.run.loop import run
from pipelines.sam import SAMS, SamConfig
from pipelines.sam.rules import AS_THEY_COME


@dataclass(frozen=True)
class EverythingConfig:
    """run: images and outputs. prompts: the strategy, by its configuration, which tells the rules of masks, too. sam:
    what makes them.
    """

    run: RunConfig
    prompts: StrategyConfig = field(default_factory=GridConfig)
    sam: SamConfig = field(default_factory=SamConfig)


def everything(config: EverythingConfig, watch: Watcher | None = None) -> Summary:
    """Segment everything in all images and write the outputs; see `pipelines.run.loop.run` for how it ends."""
    strategy = STRATEGIES[config.prompts.strategy]
    device, offline = config.sam.device, config.run.offline
    config.sam.check()
    if isinstance(config.prompts, ObjectsConfig):
        check_detector(config.prompts, device=device)
    rules = config.prompts.rules if isinstance(config.prompts, ObjectsConfig) else AS_THEY_COME

    def make_job(_: Mapping[str, int]) -> Job[Any]:
        sam = replace(config.sam, rules=rules)
        job: Job[Any] = strategy.load()(sam, config.prompts, offline=offline)
        return job

    own = SAMS[config.sam.name].own(config.prompts)
    settings = _settings(config)
    return run(config.run, settings, make_job, device=device, gives=strategy.gives, watch=watch, defaults=own)


def _settings(config: EverythingConfig) -> dict[str, Any]:
    offline = config.run.offline
    settings = {
        **config.sam.settings(offline=offline),
        "prompts": {"kind": config.prompts.strategy, **asdict(config.prompts)},
    }
    if isinstance(config.prompts, ObjectsConfig):
        model = config.prompts.model
        settings["detector_sha256"] = lambda: detector_sha256(model, offline=offline)
    return settings
