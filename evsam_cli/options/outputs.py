"""Options of the kinds of output. Which kind takes which is in `pipelines.outputs.OUTPUTS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

from evsam_cli.options import option
from pipelines.errors import UnknownNameError, UsageError
from pipelines.outputs import OUTPUTS

IMAGES = ("copy", "link", "none")


def _takers(flag: str) -> list[str]:
    """The kinds that take an option."""
    return [row.name for row in OUTPUTS.values() if flag in row.takes]


def _option(flag: str, help: str, **settings: Any) -> Any:
    return option("Output", flag, help=f"{help} For {_listed(flag)}.", **settings)


def _listed(flag: str) -> str:
    *others, last = _takers(flag)
    return f"{', '.join(others)} and {last}" if others else last


@dataclass(frozen=True)
class OutputOptions:
    """How kinds of output are written."""

    split: Annotated[
        str | None,
        _option(
            "--split",
            "Parts to train, validate and perhaps test with, by shares, such as 0.8,0.1,0.1.",
            metavar="TRAIN,VAL[,TEST]",
        ),
    ] = None
    yolo_boxes: Annotated[bool, _option("--yolo-boxes", "Boxes, not outlines.")] = False
    yolo_images: Annotated[
        str,
        _option(
            "--yolo-images",
            "Images beside the labels: copy, link or none. ultralytics may repair a JPEG, and through a link your own.",
            metavar="|".join(IMAGES),
            offered=IMAGES,
        ),
    ] = IMAGES[0]
    coco_polygons: Annotated[bool, _option("--coco-polygons", "Polygons, not RLE, for tools that read no RLE.")] = False
    labelme_masks: Annotated[bool, _option("--labelme-masks", "Shapes of type mask, not polygons.")] = False
    image_root: Annotated[
        str | None,
        _option(
            "--image-root",
            "What comes before an image's name: https://host/photos/, s3://bucket/photos/, ...",
            metavar="ADDRESS",
            show_default="/data/local-files/?d=",
        ),
    ] = None

    def given(self, kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What was given for these kinds: keyword arguments by kind. Raises UsageError for an option of others."""
        from pipelines.outputs.split import parse_split

        if self.yolo_images not in IMAGES:
            raise UnknownNameError("way to bring images", self.yolo_images, list(IMAGES))
        found: dict[str, dict[str, Any]] = {}
        for field in fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if value == field.default:
                continue
            takers = [kind for kind in _takers(flag) if kind in kinds]
            if not takers:
                raise UsageError(f"{flag} is for {_listed(flag)}: name it among the kinds, or drop {flag}")
            for kind in takers:
                found.setdefault(kind, {})[OUTPUTS[kind].takes[flag]] = (
                    parse_split(value) if flag == "--split" else value
                )
        return found
