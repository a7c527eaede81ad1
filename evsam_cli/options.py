"""Options that several verbs share. Allowed names come from the registries, so help cannot drift from them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from evsam_cli.commands import completing
from pipelines.errors import UsageError
from pipelines.limits import EXACT, MANY, SHARE, SIDE, TIMES, Limits
from pipelines.outputs import OUTPUTS
from pipelines.printable import brief
from pipelines.registry import Registry
from pipelines.sam import BACKENDS, SAMS, SamConfig, SamRow
from pipelines.sam.rules import AS_THEY_COME, MaskRules

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("fp32", "bf16", "fp16")


def split(values: list[str] | None) -> tuple[str, ...]:
    """Comma-separated and repeated values as one tuple, in order, each once."""
    parts = (part.strip() for value in values or () for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def size(text: str | None) -> int | None:
    """Bytes, of `512MB` or `4GB`. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT])i?B?", text.strip(), re.IGNORECASE)
    amount = float(match[1]) * 1024 ** (1 + "KMGT".index(match[2].upper())) if match else EXACT
    if not amount < EXACT:
        raise UsageError(f"{brief(text)} is no amount of memory: say 512MB or 4GB")
    return int(amount)


def numbers(flag: str, values: list[str] | None) -> tuple[int, ...]:
    """Comma-separated and repeated whole numbers, each once. Raises UsageError."""
    try:
        return tuple(map(int, split(values)))
    except ValueError:
        given = ", ".join(values or ())
        raise UsageError(f"{flag} takes whole numbers with commas between them, not {brief(given)}") from None


def margin(text: str | None) -> float | None:
    """The share that --box-margin names, None for `none`. Raises UsageError."""
    if text is None or text == "none":
        return None
    try:
        return MaskRules(box_margin=float(text)).box_margin
    except (ValueError, UsageError):
        raise UsageError(f"--box-margin takes a share from 0 to 1000, or none, not {brief(text)}") from None


def path(text: str) -> Path:
    """The path that an argument names. An empty text, such as a shell variable that is not set, is none."""
    if not text:
        raise typer.BadParameter("it is empty: was a shell variable not set?")
    return Path(text)


def option(
    panel: str | None,
    *names: str,
    help: str,
    within: Limits | None = None,
    offered: Iterable[str] = (),
    **settings: Any,
) -> Any:
    """A `typer.Option` in one of the help page's panels. within: what its number may be, which its help ends with;
    offered: names that shells complete."""
    if within is not None:
        settings = {"metavar": "NUMBER", "parser": number(within)} | settings
        help = f"{help} [{kind(within)}]"
    if offered:
        settings["autocompletion"] = completing(offered, listed=settings["metavar"].endswith(",..."))
    return typer.Option(*names, help=help, rich_help_panel=panel, **settings)


def kind(limits: Limits) -> str:
    """What a number may be, in words."""
    number = "a whole number" if isinstance(limits.most, int) else "a number"
    if limits.most <= MANY.most:
        return f"{number} from {limits.least:g} to {limits.most:.0f}"
    return number if limits.least < 0 else f"{number}, {limits.least:g} or more"


def choices(lead: str, rows: Registry[Any]) -> str:
    """Help with a line for each row of a table."""
    return "\n".join([lead, *(f"- {row.name}: {row.summary}." for row in rows.values())])


def number(limits: Limits) -> Callable[[Any], Any]:
    """What reads an option's number. Typer's own comparisons let nan through, and its words are a programmer's."""
    whole = isinstance(limits.most, int)

    def read(text: Any) -> Any:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = math.nan
        if not limits.least <= value <= limits.most:
            raise typer.BadParameter(f"{brief(text)} is no {'whole ' if whole else ''}number {limits.words}")
        return value

    return read


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="An image, a folder (searched recursively), a glob in quotes, a .txt list of paths or URLs, a URL, "
        "or - for a list on standard input.",
        show_default=False,
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="Folder to write to.", show_default=False, parser=path)
]

BOX_MARGIN = (
    "Look for a mask only in its box, enlarged on each side by this share of the box's width or height; none: "
    "everywhere."
)
SMALL_REGIONS = "Fill holes and remove islands of fewer pixels; 0: none."

Iou = Annotated[float, option("Boxes", "--iou", help="Boxes of a class that overlap more are one.", within=SHARE)]
MaxDet = Annotated[int, option("Boxes", "--max-det", help="Most boxes per image.", within=MANY)]
ImgSize = Annotated[
    int | None,
    option(
        "Boxes",
        "--imgsz",
        help="Longest side, in pixels, that the detector sees.",
        within=SIDE,
        show_default="what it was trained at",
    ),
]

Sam = Annotated[
    str, option("Models", "--sam", metavar="NAME", help=f"What makes the masks: {', '.join(SAMS)}.", offered=SAMS)
]
Device = Annotated[
    str,
    option(
        "Models",
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1 or mps. auto: CUDA where there is one.",
        offered=DEVICES,
    ),
]
Precision = Annotated[
    str,
    option(
        "Models",
        "--precision",
        metavar="NAME",
        help="fp32; or, faster where the machine has it, bf16, and on a GPU fp16.",
        offered=PRECISIONS,
    ),
]
Offline = Annotated[
    bool, option("Models", "--offline", help="Never touch the network for weights; also EVSAM_OFFLINE=1.")
]

Save = Annotated[
    list[str],
    option(
        "Output",
        "--save",
        metavar="KIND,...",
        help=choices("What to write, with commas between kinds.", OUTPUTS),
        offered=OUTPUTS,
    ),
]
Quiet = Annotated[bool, option("Output", "--quiet", "-q", help="Print errors only.")]

Resume = Annotated[bool, option("Long runs", "--resume", help="Go on with the run in OUT where it stopped.")]
Overwrite = Annotated[
    bool, option("Long runs", "--overwrite", help="Start anew although OUT holds a run; its files are replaced.")
]


def own_rule(field: str) -> str:
    """What --box-margin or --min-mask-region-area is where it is not given."""
    neutral = {"box_margin": "none", "min_mask_region_area": "0"}[field]
    models = [f"{row.name} {row.rules.given()[field]:g}" for row in SAMS.values() if field in row.rules.given()]
    return ", ".join([*models, f"others {neutral}" if models else neutral])


@dataclass(frozen=True)
class MaskOptions:
    """What is done to masks."""

    box_margin: Annotated[
        str | None,
        option("Masks", "--box-margin", metavar="SHARE|none", help=BOX_MARGIN, show_default=own_rule("box_margin")),
    ] = None
    min_mask_region_area: Annotated[
        int | None,
        option(
            "Masks",
            "--min-mask-region-area",
            help=SMALL_REGIONS,
            within=TIMES,
            show_default=own_rule("min_mask_region_area"),
        ),
    ] = None

    def rules(self, sam: str, *, clicks: bool = False) -> MaskRules:
        """Those given, and the SAM's own for the others. clicks: there are no boxes. Raises UsageError."""
        own = SAMS[sam].rules
        return MaskRules(
            (None if clicks else own.box_margin) if self.box_margin is None else margin(self.box_margin),
            own.min_mask_region_area if self.min_mask_region_area is None else self.min_mask_region_area,
        )


@dataclass(frozen=True)
class ModelOptions:
    """What runs a SAM."""

    weights: Annotated[
        Path | None,
        option(
            "Models",
            "--weights",
            metavar="PATH",
            help="A .pt or .safetensors checkpoint for --sam, or an exported folder.",
            parser=path,
        ),
    ] = None
    device: Device = "auto"
    precision: Precision = "fp32"
    backend: Annotated[
        str,
        option(
            "Models",
            "--backend",
            metavar="NAME",
            help=choices("What runs the SAM; what is not exported yet is exported and checked first.", BACKENDS),
            offered=BACKENDS,
        ),
    ] = "torch"
    max_memory: Annotated[
        str | None,
        option(
            "Models",
            "--max-memory",
            metavar="SIZE",
            help="Decode fewer prompts at once to stay below, such as 4GB, on the device.",
            show_default="what is free",
        ),
    ] = None
    offline: Offline = False

    def config(self, sam: str, rules: MaskRules = AS_THEY_COME) -> SamConfig:
        """What the pipeline is told of one SAM. Raises UsageError."""
        from pipelines.device import pick_device

        device = pick_device(self.device)
        return SamConfig(sam, self.weights, device, self.precision, self.backend, size(self.max_memory), rules)

    def own_model(self, sam: str) -> dict[str, SamRow]:
        """--sam and the row that it chose, unless the weights are others."""
        return {} if self.weights else {"--sam": SAMS[sam]}

    def configs(self, sams: list[str], rules: MaskRules) -> tuple[SamConfig, ...]:
        """The same of several. Raises UsageError also when they are to share --weights."""
        names = split(sams)
        if self.weights and len(names) > 1:
            raise UsageError("--weights is for one SAM, but several were named")
        return tuple(self.config(name, rules) for name in names)
