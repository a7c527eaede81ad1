"""`evsam train`: distil an encoder, fine-tune a SAM, train a detector on the same masks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from evsam_cli import options, say
from evsam_cli.commands import completing, group, verb
from evsam_cli.options.grouping import grouped
from evsam_cli.options.models import DEVICES
from pipelines.errors import SetupError, UsageError
from pipelines.limits import COUNT, FEW, WORKERS
from pipelines.sam import SAMS
from pipelines.training.config import (
    MOST_WORKERS,
    DataConfig,
    DetectorConfig,
    DistillConfig,
    FinetuneConfig,
    read_recipe,
    recipes,
)

app = group(
    """Train on your own photos with masks.

    A data set is a COCO or LVIS JSON file, a folder with annotations.json and images/, an SA-1B folder, or a folder
    with images/ and masks/ (PNG). Recipes hold the settings: print one with `evsam train recipe NAME`, change it, and
    give the file as --recipe. Needs the packages of `pip install 'evsam[train]'`.""",
    """
# See what can be set, change it, and train
evsam train recipe l0 > mine.toml
evsam train finetune -o run --recipe mine.toml --data mine --val mine-val
""",
)
Config = TypeVar("Config", FinetuneConfig, DistillConfig)
KINDS: dict[str, type] = {"finetune": FinetuneConfig, "distill": DistillConfig, "detector": DetectorConfig}
RECIPES = {recipe: text for kind in KINDS.values() for recipe, text in recipes(kind).items()}


def _names(kind: str) -> str:
    return f"Settings: a TOML file, or {', '.join(recipes(KINDS[kind]))}."


Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="RUN", help="The run's folder.", show_default=False, parser=options.path),
]
Data = Annotated[
    list[str] | None,
    options.option("Data", "--data", metavar="PATH[=WEIGHT]", help="A data set, and how often to draw from it."),
]
Validation = Annotated[
    str | None, options.option("Data", "--val", metavar="PATH", help="Data set to validate on and choose the best by.")
]
StartWeights = Annotated[
    str | None,
    options.option(
        "Model",
        "--weights",
        metavar="FILE",
        help="Checkpoint to start from; '' starts from nothing.",
        show_default="the recipe's, or the model's own",
    ),
]
Device = Annotated[
    str | None,
    options.option(
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
    options.option(
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
    options.option(
        "Machine",
        "--workers",
        help="Processes that read photos.",
        within=WORKERS,
        show_default=f"the recipe's, or one for each core, at most {MOST_WORKERS}",
    ),
]
Resume = Annotated[bool, options.option("Long runs", "--resume", help="Go on with the run where it stopped.")]


@dataclass(frozen=True)
class MachineOptions:
    """What a training loop runs on; None: as the recipe says."""

    device: Device = None
    devices: Annotated[int | None, options.option("Machine", "--devices", help="How many of them.", within=FEW)] = None
    precision: Precision = None
    workers: Workers = None

    def applied(self, config: Config) -> Config:
        """The configuration with these in its loop."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(config, loop=replace(config.loop, **given))


@verb(
    app,
    "finetune",
    """
# L0, on a COCO file
evsam train finetune -o run --recipe l0 --data train.json --val val.json

# Without its encoder; with --data a=3 --data b, a is drawn from more often
evsam train finetune -o run --recipe l0 --freeze image_encoder --data a=3

# Go on after a stop
evsam train finetune -o run --recipe l0 --data mine --resume
""",
)
@grouped
def finetune(
    output: Output,
    *,
    recipe: Annotated[
        str,
        options.option(
            "Model", "--recipe", metavar="NAME|FILE", help=_names("finetune"), offered=recipes(KINDS["finetune"])
        ),
    ],
    data: Data = None,
    val: Validation = None,
    weights: StartWeights = None,
    freeze: Annotated[
        str | None,
        options.option(
            "Model",
            "--freeze",
            metavar="PART,...",
            help="image_encoder, prompt_encoder, mask_decoder, or modules in them.",
        ),
    ] = None,
    machine: MachineOptions,
    resume: Resume = False,
) -> None:
    """Train a SAM end to end on masks (stage 2 of the paper), or only a part of it."""
    changes = _changes(data, weights, val)
    if freeze is not None:
        changes["freeze"] = options.split([freeze])
    config = machine.applied(read_recipe(FinetuneConfig, recipe, changes))
    best = _run("finetune", config, output, resume=resume)
    figures = "".join(f"  {name} {value:.4g}" for name, value in best.items())
    _say(f"{output / ('best' if best else 'last')}.safetensors{figures}")


@verb(
    app,
    "distill",
    """
# L0's encoder learns XL1's embeddings of photos without masks
evsam train distill -o run --teacher efficientvit-sam-xl1 --data photos/

# Keep the teacher's embeddings for later runs
evsam train distill -o run --data photos/ --cache embeddings/
""",
)
@grouped
def distill(
    output: Output,
    *,
    recipe: Annotated[
        str,
        options.option(
            "Model", "--recipe", metavar="NAME|FILE", help=_names("distill"), offered=recipes(KINDS["distill"])
        ),
    ] = "distill",
    data: Data = None,
    model: Annotated[
        str | None,
        options.option(
            "Model", "--model", metavar="NAME", help="The student.", show_default="the recipe's", offered=SAMS
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        options.option(
            "Model",
            "--teacher",
            metavar="NAME",
            help="Any SAM with SAM's decoder.",
            show_default="the recipe's",
            offered=SAMS,
        ),
    ] = None,
    weights: StartWeights = None,
    cache: Annotated[
        Path | None,
        options.option(
            "Data", "--cache", metavar="DIR", help="For the teacher's embeddings, 2 MB a photo.", parser=options.path
        ),
    ] = None,
    machine: MachineOptions,
    resume: Resume = False,
) -> None:
    """Teach an image encoder a teacher's image embeddings (stage 1 of the paper). Masks are not needed."""
    changes = _changes(data, weights) | {k: v for k, v in (("model", model), ("teacher", teacher)) if v}
    config = machine.applied(read_recipe(DistillConfig, recipe, changes))
    _run("distill", config, output, resume=resume, cache=cache)
    _say(f"{output / 'last.safetensors'}")


@verb(
    app,
    "detector",
    """
# Objects without names
evsam train detector -o run --data mine --val mine-val

# The data's own classes, fewer passes
evsam train detector -o run --data mine --class-aware --epochs 20
""",
)
def detector(
    output: Output,
    recipe: Annotated[
        str,
        options.option(
            "Model", "--recipe", metavar="NAME|FILE", help=_names("detector"), offered=recipes(KINDS["detector"])
        ),
    ] = "finetune",
    data: Data = None,
    val: Validation = None,
    weights: StartWeights = None,
    class_aware: Annotated[
        bool, options.option("Model", "--class-aware", help="Keep the data's classes; else all is `object`.")
    ] = False,
    epochs: Annotated[
        int | None, options.option("Model", "--epochs", help="Passes over the data.", within=COUNT)
    ] = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    resume: Resume = False,
) -> None:
    """Train a YOLO detector on boxes around the masks, by ultralytics. Weights of data sets do not count here."""
    changes = _changes(data, weights, val) | ({"class_aware": True} if class_aware else {})
    given = (("epochs", epochs), ("device", device), ("precision", precision), ("workers", workers))
    changes |= {name: value for name, value in given if value is not None}
    say.result(_run("detector", read_recipe(DetectorConfig, recipe, changes), output, resume=resume))


@verb(
    app,
    "recipe",
    """
# Start a recipe of your own
evsam train recipe l0 > mine.toml
""",
)
def show_recipe(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A recipe's name.", show_default=False, autocompletion=completing(RECIPES)),
    ],
) -> None:
    """Print a recipe, to be changed and given as --recipe FILE."""
    if name not in RECIPES:
        raise UsageError(f"no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    say.results(RECIPES[name])


def _say(text: str) -> None:
    """Print it on the first of several devices, each of which has a process."""
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    rank_zero_only(say.result)(text)


def _changes(data: list[str] | None, weights: str | None, validation: str | None = None) -> dict[str, Any]:
    """What the command line says otherwise than the recipe."""
    changes: dict[str, Any] = {}
    if data:
        changes["data"] = tuple(_data(text) for text in data)
    if validation is not None:
        changes["validation"] = DataConfig(validation)
    if weights is not None:
        changes["weights"] = weights
    return changes


def _data(text: str) -> DataConfig:
    """PATH or PATH=WEIGHT."""
    path, separator, weight = text.rpartition("=")
    try:
        return DataConfig(path, weight=float(weight)) if separator else DataConfig(text)
    except ValueError:
        return DataConfig(text)


def _run(verb: str, config: Any, output: Path, **options: Any) -> Any:
    """`pipelines.training.<verb>.run`. A missing package of the extra, or a disk that is full, is one clear line."""
    import importlib

    from pipelines.files import filling

    try:
        run = importlib.import_module(f"pipelines.training.{verb}").run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pipelines"):
            raise
        raise SetupError(
            f"training needs the package {error.name!r}: install it with `pip install 'evsam[train]'`"
        ) from error
    with filling(output), _only_our_words():
        return run(config, output, **options)


@contextmanager
def _only_our_words() -> Iterator[None]:
    """Keep back what libraries say of themselves; what a user must know is a note or an error of ours."""
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
