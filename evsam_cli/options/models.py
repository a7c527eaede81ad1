"""Options of the verbs that run a SAM: which one, on what, and what is done to its masks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from evsam_cli.options import by_model, choices, option, path, split
from pipelines.errors import UsageError
from pipelines.limits import EXACT, TIMES
from pipelines.printable import brief
from pipelines.sam import BACKENDS, SAMS, SamConfig, SamRow
from pipelines.sam.rules import AS_THEY_COME, MaskRules

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("fp32", "bf16", "fp16")

BOX_MARGIN = (
    "Look for a mask only in its box, enlarged on each side by this share of the box's width or height; none: "
    "everywhere."
)
SMALL_REGIONS = "Fill holes and remove islands of fewer pixels; 0: none."

Sam = Annotated[
    str,
    option(
        "Models",
        "--sam",
        metavar="NAME",
        help=f"What makes the masks: {', '.join(SAMS)}. nanosam4 is {SAMS['nanosam4'].summary}.",
        offered=SAMS,
    ),
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


def size(text: str | None) -> int | None:
    """Bytes, of `512MB` or `4GB`. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT])i?B?", text.strip(), re.IGNORECASE)
    amount = float(match[1]) * 1024 ** (1 + "KMGT".index(match[2].upper())) if match else EXACT
    if not amount < EXACT:
        raise UsageError(f"{brief(text)} is no amount of memory: say 512MB or 4GB")
    return int(amount)


def margin(text: str | None) -> float | None:
    """The share that --box-margin names, None for `none`. Raises UsageError."""
    if text is None or text == "none":
        return None
    try:
        return MaskRules(box_margin=float(text)).box_margin
    except (ValueError, UsageError):
        raise UsageError(f"--box-margin takes a share from 0 to 1000, or none, not {brief(text)}") from None


def own_rule(field: str) -> str:
    """What --box-margin or --min-mask-region-area is where it is not given."""
    neutral = {"box_margin": "none", "min_mask_region_area": "0"}[field]
    given = {name: row.rules.given() for name, row in SAMS.items()}
    return by_model({name: rules[field] for name, rules in given.items() if field in rules}, neutral)


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
        area = self.min_mask_region_area
        return MaskRules(
            box_margin=(None if clicks else own.box_margin) if self.box_margin is None else margin(self.box_margin),
            min_mask_region_area=own.min_mask_region_area if area is None else area,
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
    precision: Precision = SamConfig.precision
    backend: Annotated[
        str,
        option(
            "Models",
            "--backend",
            metavar="NAME",
            help=choices("What runs the SAM; what is not exported yet is exported and checked first.", BACKENDS),
            offered=BACKENDS,
        ),
    ] = SamConfig.backend
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

        return SamConfig(
            name=sam,
            weights=self.weights,
            device=pick_device(self.device),
            precision=self.precision,
            backend=self.backend,
            max_memory=size(self.max_memory),
            rules=rules,
        )

    def own_model(self, sam: str) -> dict[str, SamRow]:
        """--sam and the row that it chose, unless the weights are others."""
        return {} if self.weights else {"--sam": SAMS[sam]}

    def configs(self, sams: list[str], rules: MaskRules) -> tuple[SamConfig, ...]:
        """The same of several. Raises UsageError also when they are to share --weights."""
        names = split(sams)
        if self.weights and len(names) > 1:
            raise UsageError("--weights is for one SAM, but several were named")
        return tuple(self.config(name, rules) for name in names)
