"""`evsam train`: distil an encoder, fine-tune a SAM, train a detector on the same masks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from evsam_cli import say
from evsam_cli.commands import completing, group, verb
from evsam_cli.options import option, path, split
from evsam_cli.options.grouping import grouped
from evsam_cli.options.training import (
    RECIPES,
    Data,
    Device,
    MachineOptions,
    Output,
    Precision,
    Resume,
    StartWeights,
    Validation,
    Workers,
    changes_of,
    recipe_option,
)
from pipelines.errors import SetupError, UsageError
from pipelines.limits import COUNT
from pipelines.sam import SAMS
from pipelines.training.config import DistillConfig, FinetuneConfig, YoloConfig
from pipelines.training.recipe import read_recipe

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
    recipe: Annotated[str, recipe_option("finetune")],
    data: Data = None,
    val: Validation = None,
    weights: StartWeights = None,
    freeze: Annotated[
        str | None,
        option(
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
    changes = changes_of(data, weights, val)
    if freeze is not None:
        changes["freeze"] = split([freeze])
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
    recipe: Annotated[str, recipe_option("distill")] = "distill",
    data: Data = None,
    model: Annotated[
        str | None,
        option("Model", "--model", metavar="NAME", help="The student.", show_default="the recipe's", offered=SAMS),
    ] = None,
    teacher: Annotated[
        str | None,
        option(
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
        option("Data", "--cache", metavar="DIR", help="For the teacher's embeddings, 2 MB a photo.", parser=path),
    ] = None,
    machine: MachineOptions,
    resume: Resume = False,
) -> None:
    """Teach an image encoder a teacher's image embeddings (stage 1 of the paper). Masks are not needed."""
    changes = changes_of(data, weights) | {k: v for k, v in (("model", model), ("teacher", teacher)) if v}
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
    recipe: Annotated[str, recipe_option("detector")] = "finetune",
    data: Data = None,
    val: Validation = None,
    weights: StartWeights = None,
    class_aware: Annotated[
        bool, option("Model", "--class-aware", help="Keep the data's classes; else all is `object`.")
    ] = False,
    epochs: Annotated[int | None, option("Model", "--epochs", help="Passes over the data.", within=COUNT)] = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    resume: Resume = False,
) -> None:
    """Train a YOLO detector on boxes around the masks, by ultralytics. Weights of data sets do not count here."""
    changes = changes_of(data, weights, val) | ({"class_aware": True} if class_aware else {})
    given = (("epochs", epochs), ("device", device), ("precision", precision), ("workers", workers))
    changes |= {name: value for name, value in given if value is not None}
    say.result(_run("detector", read_recipe(YoloConfig, recipe, changes), output, resume=resume))


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
