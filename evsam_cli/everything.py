"""`evsam everything`: masks of all there is in an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

from evsam_cli import options, running
from evsam_cli.groups import grouped
from pipelines.detectors import DETECTORS
from pipelines.errors import UnknownNameError, UsageError
from pipelines.everything import STRATEGIES
from pipelines.everything.config import CONFIGS, PRESETS, GridConfig, HierarchicalConfig, ObjectsConfig

if TYPE_CHECKING:
    from pipelines.everything.config import StrategyConfig

FLATTENS = ("area", "score")


def _option(panel: str, field: str, help: str, config: type = GridConfig, **settings: Any) -> Any:
    """An option for a field of a strategy's configuration: unset it is None, and the field's own default holds."""
    default = next(f.default for f in fields(config) if f.name == field)
    text = f"{default:.3g}" if isinstance(default, float) else default
    return options.option(panel, _flag(field), help=f"{help} Default: {text}.", show_default=False, **settings)


def _flag(field: str) -> str:
    return "--detector" if field == "model" else f"--{field.replace('_', '-')}"


_KINDS = " ".join(f"{row.name}: {row.summary}." for row in STRATEGIES.values())
ASK, KEEP, BOXES = "What to ask", "What to keep", "With --prompts objects"


@dataclass(frozen=True)
class SearchOptions:
    """Fields of the strategies' configurations."""

    points_per_side: Annotated[int | None, _option(ASK, "points_per_side", "Clicks on a side; 16 for edges.")] = None
    points_per_batch: Annotated[
        int | None, _option(ASK, "points_per_batch", "Most clicks decoded at once: less memory.")
    ] = None
    crop_n_layers: Annotated[
        int | None, _option(ASK, "crop_n_layers", "Search 4 crops too, or 4 + 16, ...: small things.")
    ] = None
    crop_overlap_ratio: Annotated[
        float | None, _option(ASK, "crop_overlap_ratio", "How far crops overlap, of the short side.")
    ] = None
    crop_n_points_downscale_factor: Annotated[
        int | None, _option(ASK, "crop_n_points_downscale_factor", "So much fewer clicks a side in each layer.")
    ] = None
    high_score_thresh: Annotated[
        float | None,
        _option(ASK, "high_score_thresh", "hierarchical: ask no more above this logit.", HierarchicalConfig),
    ] = None
    pred_iou_thresh: Annotated[
        float | None, _option(KEEP, "pred_iou_thresh", "Predicted IoU to exceed; 0 for all masks.")
    ] = None
    stability_score_thresh: Annotated[
        float | None, _option(KEEP, "stability_score_thresh", "Lowest stability score; 0 for all masks.")
    ] = None
    stability_score_offset: Annotated[
        float | None, _option(KEEP, "stability_score_offset", "Logits by which stability shifts the threshold.")
    ] = None
    box_nms_thresh: Annotated[
        float | None, _option(KEEP, "box_nms_thresh", "Masks whose boxes overlap more are one.")
    ] = None
    crop_nms_thresh: Annotated[float | None, _option(KEEP, "crop_nms_thresh", "The same, between crops.")] = None
    min_mask_region_area: Annotated[
        int | None, _option(KEEP, "min_mask_region_area", "Holes and islands of fewer pixels go.")
    ] = None
    model: Annotated[
        str | None,
        _option(
            BOXES,
            "model",
            f"Where boxes come from: {', '.join(DETECTORS)}, or a .pt / .onnx.",
            ObjectsConfig,
            metavar="NAME|FILE",
        ),
    ] = None
    conf: Annotated[float | None, _option(BOXES, "conf", "Lowest detector score to keep.", ObjectsConfig)] = None
    iou: Annotated[float | None, _option(BOXES, "iou", "Boxes that overlap more are one.", ObjectsConfig)] = None
    max_det: Annotated[int | None, _option(BOXES, "max_det", "Most boxes per image.", ObjectsConfig)] = None
    imgsz: Annotated[
        int | None, _option(BOXES, "imgsz", "Longest side, in pixels, that the detector sees.", ObjectsConfig)
    ] = None


@grouped
def everything(
    sources: options.Sources,
    output: options.Output,
    *,
    prompts: Annotated[
        str, options.option(ASK, "--prompts", metavar="NAME", help=f"How to search the image. {_KINDS}")
    ] = "grid",
    preset: Annotated[
        str, options.option(ASK, "--preset", metavar="NAME", help=f"Whose values to start from: {', '.join(PRESETS)}.")
    ] = "sam",
    search: SearchOptions,
    sam: options.Sam = "evsam-starter",
    models: options.ModelOptions,
    save: options.Save = ["coco,overlay"],  # noqa: B006  Typer reads it, nobody writes it
    flatten: Annotated[
        str | None,
        options.option(
            "Output",
            "--flatten",
            metavar="|".join(FLATTENS),
            help="Save panoptic PNGs, one id per pixel: of masks that overlap, show the smallest or the best.",
        ),
    ] = None,
    flatten_min_area: Annotated[
        int, options.option("Output", "--flatten-min-area", help="There, holes and islands of fewer pixels go.", min=0)
    ] = 100,
    run: running.RunOptions,
) -> None:
    """Segment everything in images, whatever it is.

    evsam everything photos/ -o out --save amg-rle,overlay

    evsam everything photos/ -o out --prompts objects

    evsam everything photos/ -o out --sam efficientvit-sam-l0 --preset efficientvit --flatten area

    evsam everything photos/ -o out --prompts edges
    """
    from pipelines.everything.job import EverythingConfig, everything

    if flatten not in (None, *FLATTENS):
        raise UnknownNameError("way to flatten", flatten, list(FLATTENS))
    also = {"panoptic": flatten is not None, "edges": prompts == "edges"}
    images = run.config(
        sources,
        output,
        [*save, *(kind for kind, wanted in also.items() if wanted)],
        offline=models.offline,
        output_options={"panoptic": {"by": flatten, "min_area": flatten_min_area}} if flatten else {},
    )
    config = EverythingConfig(images, configure(prompts, preset, asdict(search)), models.config(sam))
    run.show(output, lambda watch: everything(config, watch))


def configure(strategy: str, preset: str, given: Mapping[str, Any]) -> StrategyConfig:
    """A strategy's configuration: the values given (None: not given), then the preset's, then its own defaults.

    Raises UsageError for an unknown name, and for a value that the strategy has no use for.
    """
    STRATEGIES[strategy]
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, list(PRESETS))
    chosen = PRESETS[preset] | {field: value for field, value in given.items() if value is not None}
    config = CONFIGS[strategy]
    useless = [_flag(field) for field in chosen if field not in {known.name for known in fields(config)}]
    if useless:
        raise UsageError(f"--prompts {strategy} has no use for {', '.join(useless)}")
    return config(**chosen)
