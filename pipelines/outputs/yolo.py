"""A data set for ultralytics' YOLO: `yolo segment train data=OUT/yolo/data.yaml`.

ultralytics looks for an image's labels where its path says `labels` for the last `images`, and `.txt` for its
extension; so an image lies, and is listed, under the stem that its labels have.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from pipelines.files import replacing, to_json
from pipelines.notes import counted_images
from pipelines.outlines import joined, outlines
from pipelines.outputs import Output
from pipelines.outputs.objects import covers_nothing, left_out, object_box
from pipelines.outputs.split import PARTS, empty_parts, part_of
from pipelines.records import InstanceRecord, Record, instance_records
from pipelines.types import Image, Instances

READ = frozenset("avif bmp dng heic heif jp2 jpeg jpg mpo png tif tiff webp".split())
"""Extensions of the images that ultralytics trains on; it passes over others."""
_INSET = 0.05
"""Pixels by which corners move into the mask: then they fill its pixels exactly, both where a polygon is filled as an
area and where its corners are rounded down to pixels, which are then filled with their edges, as ultralytics does."""

Images = Literal["copy", "link", "none"]


@dataclass(frozen=True)
class Yolo(Output):
    """`yolo/labels/<stem>.txt`, an object a line: the class, then x and y of the corners of its outline, or with
    `boxes`, or where there are no masks, x and y of its box's centre, width and height; all as shares of the image's
    width and height. Classes count from 0 in the order of the run's.

    Holes and parts are joined to one outline by bridges. images: how the images come to yolo/images; ultralytics
    repairs JPEGs in place, so links let it change the originals. split: shares of PARTS, else all are in the first.
    """

    of_image = ("yolo/labels/{}.txt",)
    boxes: bool = False
    images: Images = "copy"
    split: Sequence[float] = ()

    def own_files(self, name: str) -> list[Path]:
        path = self._image(name)
        return [*super().own_files(name), *([path] if path.is_symlink() or path.exists() else [])]

    def write(self, image: Image, instances: Instances) -> None:
        classes = {id: index for index, id in enumerate(self.destination.categories)}
        with self.destination.opened("yolo", "labels", f"{self.destination.stem(image.name)}.txt") as file:
            for instance in instance_records(instances):
                if numbers := list(self._shape(instance, image.width, image.height)):
                    file.write(" ".join([str(classes[instance["category_id"]]), *numbers]) + "\n")
        self._bring(image.name)

    def _shape(self, instance: InstanceRecord, width: int, height: int) -> Iterator[str]:
        """An object's numbers; none for a mask without pixels."""
        if self.boxes or "segmentation" not in instance:
            x, y, w, h = object_box(instance)
            shares = np.array([(x + w / 2) / width, (y + h / 2) / height, w / width, h / height])
        elif covers_nothing(instance):
            return
        else:
            ring = joined([ring for part in outlines(instance["segmentation"]) for ring in part])
            shares = ((ring.corners + _INSET * ring.inward) / (width, height)).ravel()
        for share in shares.tolist():
            yield f"{share:.6f}"

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        parts = PARTS[: max(len(self.split), 1)]
        with ExitStack() as stack:
            lists = {part: stack.enter_context(self.destination.opened("yolo", f"{part}.txt")) for part in parts}
            for name in _read(records):
                self._bring(name)
                part = part_of(name, self.split) if self.split else parts[0]
                lists[part].write(f"./images/{self._image(name).relative_to(self._images).as_posix()}\n")
        with self.destination.opened("yolo", "data.yaml") as file:
            for part in parts:
                file.write(f"{part}: {part}.txt\n")
            if not self.split:
                file.write("val: train.txt  # the run had no --split\n")
            names = [category.name for category in self.destination.categories.values()]
            file.write("names:" + ("\n" if names else " {}\n"))
            file.writelines(f"  {index}: {to_json(name)}\n" for index, name in enumerate(names))

    def notes(self, records: Callable[[], Iterable[Record]]) -> Iterator[str]:
        if not self.boxes:
            yield from left_out("yolo", records)
            kinds = {"segmentation" in instance for record in records() for instance in record.instances}
            if len(kinds) == 2:
                yield "some objects have a mask, others only a box; ultralytics takes one or the other: --yolo-boxes"
        yield from empty_parts("yolo", self.split, records)
        if unread := [name for name in _read(records) if PurePosixPath(name).suffix[1:].lower() not in READ]:
            yield f"ultralytics does not train on images of this format ({counted_images(unread)})"
        if self.images != "none" and (lost := [name for name in _read(records) if not self._image(name).exists()]):
            yield f"no file is there to be put into {self._images}: put it there yourself ({counted_images(lost)})"

    @property
    def _images(self) -> Path:
        return self.destination.path("yolo", "images")

    def _image(self, name: str) -> Path:
        return self._images / (self.destination.stem(name) + PurePosixPath(name).suffix)

    def _bring(self, name: str) -> None:
        """Put the image where ultralytics looks for it, unless it is there, or there is none to be had."""
        if self.images == "none" or (location := self.destination.locations.get(name)) is None:
            return
        path, original = self._image(name), Path(location).absolute()
        try:
            status = original.stat()
            source = original.open("rb")
        except OSError:  # it has vanished since; what was brought earlier stays
            return
        with source:
            if self.images == "link":
                if not path.is_symlink() or path.readlink() != original:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.unlink(missing_ok=True)
                    path.symlink_to(original)
            elif path.is_symlink() or not _is_copy(path, status):
                with replacing(path, self.destination.scratch) as temporary:
                    with temporary.open("wb") as file:
                        shutil.copyfileobj(source, file)
                    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))


def _read(records: Callable[[], Iterable[Record]]) -> Iterator[str]:
    """Names of the images that were read."""
    return (record.name for record in records() if record.status != "failed")


def _is_copy(path: Path, original: os.stat_result) -> bool:
    """Whether a file is there that is as large and as old."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (original.st_size, original.st_mtime_ns)
