"""`evsam everything`: masks of all there is in an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

from evsam_cli.options import by_model, choices, listed, option
from evsam_cli.options.grouping import grouped
from evsam_cli.options.models import BOX_MARGIN, SMALL_REGIONS, ModelOptions, Sam, margin
from evsam_cli.options.runs import Output, RunOptions, Save, Sources
from pipelines.detectors import DETECTORS
from pipelines.errors import UnknownNameError, UsageError
from pipelines.everything import STRATEGIES
from pipelines.everything.config import (
    LAYERS,
    OFFSET,
    PRESETS,
    SECOND_PASSES,
    GridConfig,
    HierarchicalConfig,
    ObjectsConfig,
)
from pipelines.limits import FEW, LOGIT, MANY, SHARE, SIDE, TIMES
from pipelines.outputs import PANOPTIC_MIN_AREA
from pipelines.run import RunConfig
from pipelines.sam import SAMS, SamConfig

if TYPE_CHECKING:
    from pipelines.everything.config import StrategyConfig
    from pipelines.sam import SamRow

FLATTENS = ("area", "score")
_NOTHING = {"box_margin": "none", "imgsz": "what it was trained at"}
"""What None means, by the field whose default it is."""


def _option(panel: str, field: str, help: str, config: type = GridConfig, **settings: Any) -> Any:
    """An option for a field of a strategy's configuration: unset it is None, and the model's or its own holds."""
    default = next(f.default for f in fields(config) if f.name == field)
    text = f"{default:.3g}" if isinstance(default, float) else _NOTHING.get(field, str(default))
    values = {row.name: row.own_values() for row in SAMS.values()}
    whose = by_model({name: str(own[field]) for name, own in values.items() if field in own}, text)
    return option(panel, _flag(field), help=help, show_default=whose, **settings)


def _flag(field: str) -> str:
    return "--detector" if field == "model" else f"--{field.replace('_', '-')}"


ASK, KEEP, BOXES = "What to ask", "What to keep", "With --prompts objects"


@dataclass(frozen=True)
class SearchOptions:
    """Fields of the strategies' configurations."""

    points_per_side: Annotated[
        int | None, _option(ASK, "points_per_side", "Clicks on a side; 16 for edges.", within=FEW)
    ] = None
    points_per_batch: Annotated[
        int | None, _option(ASK, "points_per_batch", "Most clicks decoded at once: less memory.", within=MANY)
    ] = None
    crop_n_layers: Annotated[
        int | None, _option(ASK, "crop_n_layers", "Search 4 crops too, or 4 + 16, ...: small things.", within=LAYERS)
    ] = None
    crop_overlap_ratio: Annotated[
        float | None, _option(ASK, "crop_overlap_ratio", "How far crops overlap, of the short side.", within=SHARE)
    ] = None
    crop_n_points_downscale_factor: Annotated[
        int | None,
        _option(ASK, "crop_n_points_downscale_factor", "So much fewer clicks a side in each layer.", within=FEW),
    ] = None
    high_score_thresh: Annotated[
        float | None,
        _option(
            ASK, "high_score_thresh", "hierarchical: ask no more above this logit.", HierarchicalConfig, within=LOGIT
        ),
    ] = None
    second_pass: Annotated[
        str | None,
        _option(
            ASK,
            "second_pass",
            "hierarchical: finer clicks lie on the full grid, or around the first ones, as TinySAM's do.",
            HierarchicalConfig,
            metavar="|".join(SECOND_PASSES),
            offered=SECOND_PASSES,
        ),
    ] = None
    pred_iou_thresh: Annotated[
        float | None, _option(KEEP, "pred_iou_thresh", "Predicted IoU to exceed; 0 for all masks.", within=SHARE)
    ] = None
    stability_score_thresh: Annotated[
        float | None, _option(KEEP, "stability_score_thresh", "Lowest stability score; 0 for all masks.", within=SHARE)
    ] = None
    stability_score_offset: Annotated[
        float | None,
        _option(KEEP, "stability_score_offset", "Logits by which stability shifts the threshold.", within=OFFSET),
    ] = None
    box_nms_thresh: Annotated[
        float | None, _option(KEEP, "box_nms_thresh", "Masks whose boxes overlap more are one.", within=SHARE)
    ] = None
    crop_nms_thresh: Annotated[
        float | None, _option(KEEP, "crop_nms_thresh", "The same, between crops.", within=SHARE)
    ] = None
    min_mask_region_area: Annotated[int | None, _option(KEEP, "min_mask_region_area", SMALL_REGIONS, within=TIMES)] = (
        None
    )
    model: Annotated[
        str | None,
        _option(
            BOXES,
            "model",
            f"Where boxes come from: {', '.join(DETECTORS)}, or a .pt / .onnx.",
            ObjectsConfig,
            metavar="NAME|FILE",
            offered=DETECTORS,
        ),
    ] = None
    conf: Annotated[
        float | None, _option(BOXES, "conf", "Lowest detector score to keep.", ObjectsConfig, within=SHARE)
    ] = None
    iou: Annotated[
        float | None, _option(BOXES, "iou", "Boxes that overlap more are one.", ObjectsConfig, within=SHARE)
    ] = None
    max_det: Annotated[int | None, _option(BOXES, "max_det", "Most boxes per image.", ObjectsConfig, within=MANY)] = (
        None
    )
    box_margin: Annotated[str | None, _option(BOXES, "box_margin", BOX_MARGIN, ObjectsConfig, metavar="SHARE|none")] = (
        None
    )
    imgsz: Annotated[
        int | None,
        _option(BOXES, "imgsz", "Longest side, in pixels, that the detector sees.", ObjectsConfig, within=SIDE),
    ] = None


EXAMPLES = """
# With the bundled models: boxes of any object, about a second a photograph
evsam everything photos/ -o out

# A grid of clicks, as SAM's automatic mask generator; its files, and pictures
evsam everything photos/ -o out --prompts grid --save amg-rle,overlay

# A better model, and one id per pixel where masks overlap
evsam everything photos/ -o out --sam efficientvit-sam-l0 --flatten area

# Edge maps
evsam everything photos/ -o out --prompts edges
"""


@grouped
def everything(
    sources: Sources,
    output: Output,
    *,
    prompts: Annotated[
        str | None,
        option(
            ASK,
            "--prompts",
            metavar="NAME",
            help=choices("How to search the image.", STRATEGIES),
            show_default=by_model({name: row.strategy for name, row in SAMS.items()}),
            offered=STRATEGIES,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        option(
            ASK,
            "--preset",
            metavar="NAME",
            help=f"Whose values to start from: {', '.join(PRESETS)}.",
            show_default="the model's own",
            offered=PRESETS,
        ),
    ] = None,
    search: SearchOptions,
    sam: Sam = SamConfig.name,
    models: ModelOptions,
    save: Save = listed(RunConfig.save),
    flatten: Annotated[
        str | None,
        option(
            "Output",
            "--flatten",
            metavar="|".join(FLATTENS),
            help="Save panoptic PNGs, one id per pixel: of masks that overlap, show the smallest or the best.",
            offered=FLATTENS,
        ),
    ] = None,
    flatten_min_area: Annotated[
        int, option("Output", "--flatten-min-area", help="There, holes and islands of fewer pixels go.", within=TIMES)
    ] = PANOPTIC_MIN_AREA,
    run: RunOptions,
) -> None:
    """Segment everything in images, whatever it is."""
    from pipelines.everything.job import EverythingConfig, everything

    if flatten not in (None, *FLATTENS):
        raise UnknownNameError("way to flatten", flatten, list(FLATTENS))
    strategy = configure(prompts, preset, asdict(search), SAMS[sam])
    written = {"panoptic": flatten is not None, "edges": STRATEGIES[strategy.strategy].gives == "edges"}
    images = run.config(
        sources,
        output,
        [*save, *(kind for kind, wanted in written.items() if wanted)],
        offline=models.offline,
        output_options={"panoptic": {"by": flatten, "min_area": flatten_min_area}} if flatten else {},
    )
    config = EverythingConfig(images, strategy, models.config(sam))
    instead = "--prompts objects takes a small part of that" if isinstance(strategy, GridConfig) else ""
    also = () if prompts else ("--prompts", strategy.strategy)  # which another SAM may not choose by itself
    run.show(output, lambda watch: everything(config, watch), models.own_model(sam), also=also, instead=instead)


def configure(strategy: str | None, preset: str | None, given: Mapping[str, Any], sam: SamRow) -> StrategyConfig:
    """A strategy's configuration: the values given (None: not given), then the preset's or the model's, then its own.

    strategy: None for the model's own, or with a preset, or a value that it has no use for, the first that takes all of
    the preset's. Raises UsageError for an unknown name, and for a value that the strategy has no use for.
    """
    if preset is not None and preset not in PRESETS:
        raise UnknownNameError("preset", preset, list(PRESETS))
    chosen = {field: value for field, value in given.items() if value is not None}
    start = PRESETS[preset] if preset else {}
    asked = start | chosen
    if strategy is None:
        takers = (name for name in STRATEGIES if not _useless(name, start))
        strategy = sam.strategy if preset is None and not _useless(sam.strategy, asked) else next(takers)
    row = STRATEGIES[strategy]
    if useless := _useless(strategy, asked):
        whose = "" if set(useless) <= set(chosen) else f", which --preset {preset} sets"
        raise UsageError(f"--prompts {strategy} has no use for {', '.join(map(_flag, useless))}{whose}")
    own = {} if preset else {name: value for name, value in sam.own_values().items() if not _useless(strategy, [name])}
    if "box_margin" in asked:
        asked["box_margin"] = margin(asked["box_margin"])
    return row.config(**(own | asked))


def _useless(strategy: str, names: Iterable[str]) -> list[str]:
    """Those fields that the strategy's configuration does not have."""
    known = {field.name for field in fields(STRATEGIES[strategy].config)}
    return [name for name in names if name not in known]
