"""Options of the verbs of `evsam train`: what is trained on, from which recipe, and on what machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from evsam_cli.options import option, path
from evsam_cli.options.models import DEVICES
from pipelines.limits import FEW, WORKERS
from pipelines.training.config import MOST_WORKERS, DataConfig, DistillConfig, FinetuneConfig, YoloConfig
from pipelines.training.recipe import recipes

Config = TypeVar("Config", FinetuneConfig, DistillConfig)
KINDS: dict[str, type] = {"finetune": FinetuneConfig, "distill": DistillConfig, "detector": YoloConfig}
RECIPES = {recipe: text for kind in KINDS.values() for recipe, text in recipes(kind).items()}


def recipe_option(kind: str) -> Any:
    """What names a recipe of a kind."""
    known = recipes(KINDS[kind])
    text = f"Settings: a TOML file, or {', '.join(known)}."
    return option("Model", "--recipe", metavar="NAME|FILE", help=text, offered=known)


Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="RUN", help="The run's folder.", show_default=False, parser=path)
]
Data = Annotated[
    list[str] | None,
    option("Data", "--data", metavar="PATH[=WEIGHT]", help="A data set, and how often to draw from it."),
]
Validation = Annotated[
    str | None, option("Data", "--val", metavar="PATH", help="Data set to validate on and choose the best by.")
]
StartWeights = Annotated[
    str | None,
    option(
        "Model",
        "--weights",
        metavar="FILE",
        help="Checkpoint to start from; '' starts from nothing.",
        show_default="the recipe's, or the model's own",
    ),
]
Device = Annotated[
    str | None,
    option(
        "Machine",
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda or mps.",
        show_default="the recipe's",
        offered=DEVICES,
    ),
]
Precision = Annotated[
    str | None,
    option(
        "Machine",
        "--precision",
        metavar="NAME",
        help="32-true or bf16-mixed.",
        show_default="the recipe's",
        offered=("32-true", "bf16-mixed"),
    ),
]
Workers = Annotated[
    int | None,
    option(
        "Machine",
        "--workers",
        help="Processes that read photos.",
        within=WORKERS,
        show_default=f"the recipe's, or one for each core, at most {MOST_WORKERS}",
    ),
]
Resume = Annotated[bool, option("Long runs", "--resume", help="Go on with the run where it stopped.")]


@dataclass(frozen=True)
class MachineOptions:
    """What a training loop runs on; None: as the recipe says."""

    device: Device = None
    devices: Annotated[int | None, option("Machine", "--devices", help="How many of them.", within=FEW)] = None
    precision: Precision = None
    workers: Workers = None

    def applied(self, config: Config) -> Config:
        """The configuration with these in its loop."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(config, loop=replace(config.loop, **given))


def changes_of(data: list[str] | None, weights: str | None, validation: str | None = None) -> dict[str, Any]:
    """What the command line says otherwise than the recipe."""
    said: dict[str, Any] = {}
    if data:
        said["data"] = tuple(_data(text) for text in data)
    if validation is not None:
        said["validation"] = DataConfig(validation)
    if weights is not None:
        said["weights"] = weights
    return said


def _data(text: str) -> DataConfig:
    """PATH or PATH=WEIGHT."""
    path, separator, weight = text.rpartition("=")
    try:
        return DataConfig(path, weight=float(weight)) if separator else DataConfig(text)
    except ValueError:
        return DataConfig(text)
