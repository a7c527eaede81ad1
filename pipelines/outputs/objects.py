"""What is asked of an object alike by formats that list objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pipelines import rle
from pipelines.notes import counted_images
from pipelines.records import InstanceRecord, Record


def covers_nothing(instance: InstanceRecord) -> bool:
    """Whether it has a mask, and this is without pixels."""
    return instance.get("area") == 0


def object_box(instance: InstanceRecord) -> list[float]:
    """xywh in pixels: its mask's, or the detector's where there is no mask, or one without pixels."""
    return [*map(float, rle.bbox(instance["segmentation"]))] if instance.get("area") else instance["bbox"]


def left_out(kind: str, records: Callable[[], Iterable[Record]]) -> list[str]:
    """A note where a format has no place for masks without pixels."""
    names = [record.name for record in records() for instance in record.instances if covers_nothing(instance)]
    if not names:
        return []
    masks = f"{len(names)} masks cover" if len(names) > 1 else "a mask covers"
    images = counted_images(list(dict.fromkeys(names)))
    return [f"{masks} no pixel, and {'are' if len(names) > 1 else 'is'} left out of {kind} ({images})"]
