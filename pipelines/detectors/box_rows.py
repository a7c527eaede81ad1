"""Which of the images there are the boxes of a file are of, and which boxes are of none."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path

import numpy as np

from pipelines.boxes import to_xyxy
from pipelines.detectors.box_columns import BoxTable, ListedImage
from pipelines.errors import DataError, ImageError
from pipelines.frames import boxes_from, frame_of_size, size_in_other, unsaid
from pipelines.names import match, pair
from pipelines.notes import counted_images
from pipelines.types import Float32, Frame, Image, Int64


class RowsByImage:
    """The rows of a table by image.

    places: name of an image -> its place in the table's `images`. lost: how many boxes, and images that have them, are
    of none of the images there are. notes: what of all that should be known.
    """

    def __init__(
        self,
        path: Path,
        table: BoxTable,
        image_ids: Mapping[str, int],
        *,
        numbered: bool,
        whose: str = "the",
        min_score: float | None = None,
    ) -> None:
        """image_ids: every image there is, name -> id, whether its boxes will be asked for or not. An image is found by
        its name (see `names.match`), else, where none of the table's names is one of theirs, by its id: if the table
        has only ids, or `numbered` says that ids stand for the images. whose: the images are, for a message. min_score:
        leave lower scores out.

        Raises DataError when the table speaks of images and of none of these.
        """
        self.path, self.table = path, table
        named = {image.name: place for place, image in enumerate(table.images) if image.name is not None}
        matching = (pair if table.of_files else match)(image_ids, named)
        self.places = {name: named[theirs] for name, theirs in matching.found.items()}
        self.notes = matching.notes(path.name)
        if not self.places and (numbered or not named):
            by_id = {image.id: place for place, image in enumerate(table.images) if image.id is not None}
            self.places = {name: by_id[id] for name, id in image_ids.items() if id in by_id}
            if named and self.places:
                self.notes.append(f"the images of {path.name} were found by their ids: none has a name that is known")
        if table.images and not self.places:
            raise DataError(
                f"{path} has boxes for none of {whose} {len(image_ids)} images: is it the right file? "
                f"Its first image is {_called(table.images[0])}, that of these {next(iter(image_ids), 'none')}"
            )
        order = np.argsort(table.image_indices, kind="stable")
        if min_score is not None:
            order = order[table.scores[order] >= min_score]
        self.below_min_score = len(table.scores) - len(order)
        self._order = order
        # Boxes of image i are order[starts[i]:starts[i + 1]].
        self._starts = np.searchsorted(table.image_indices[order], np.arange(len(table.images) + 1))
        counts = np.diff(self._starts)
        counts[list(self.places.values())] = 0
        without = [_called(table.images[place]) for place in np.flatnonzero(counts)]
        self.lost = {"of_no_image": int(counts.sum()), "images_not_found": len(without)}
        if without:
            boxes = f"{counts.sum()} box{'' if counts.sum() == 1 else 'es'}"
            self.notes.append(f"{boxes} of {path.name} found no image: those of {counted_images(without)}")

    def known_by(self, image_ids: Mapping[str, int]) -> tuple[dict[str, int], list[str]]:
        """Name -> id: the table's own for an image that it has one for, and notes. The others keep the id they have, or
        get the lowest that is free, where the table has that for another image."""
        theirs = {name: id for name, place in self.places.items() if (id := self.table.images[place].id) is not None}
        others = [name for name in image_ids if name not in theirs]
        taken: set[int | None] = {image.id for image in self.table.images}
        ids = theirs | {name: image_ids[name] for name in others if image_ids[name] not in taken}
        taken.update(ids.values())
        free = (id for id in count(1) if id not in taken)
        ids |= {name: next(free) for name in others if name not in ids}
        ids = {name: ids[name] for name in image_ids}
        if not others or ids == image_ids:
            return ids, []
        kept = f"the images have the ids of {self.path.name}, and those that it does not list have free ones"
        return ids, [f"{kept}: {counted_images(others)}"]

    def image(self, name: str) -> ListedImage | None:
        """The image as the file speaks of it, None where it does not."""
        return self.table.images[self.places[name]] if name in self.places else None

    def boxes(self, image: Image) -> tuple[Int64, Float32, tuple[str, ...]]:
        """The image's N rows, best score first, their N x 4 xyxy boxes in the frame of the image, and notes.

        Raises ImageError for an image whose size is not the one that the file states.
        """
        stated, rows = self.image(image.name), self.rows(image.name)
        if stated is None:
            return rows, np.zeros((0, 4), np.float32), ()
        frame, notes = self._frame(image, stated)
        width, height = size_in_other(image) if frame not in (None, image.frame) else (image.width, image.height)
        if stated.size not in (None, (width, height)):
            sizes = "{} x {}, but {} states {} x {}".format(image.width, image.height, self.path, *stated.size)
            raise ImageError(f"the image is {sizes} for its boxes")
        table = self.table
        boxes = to_xyxy(table.boxes[rows], table.box_format, width=width, height=height, allow_empty=True)
        return rows, boxes_from(frame, boxes, image), notes if len(rows) else ()

    def _frame(self, image: Image, stated: ListedImage) -> tuple[Frame | None, tuple[str, ...]]:
        """In which frame of the image its boxes are counted, and notes."""
        if image.frame is None or stated.frame is not None:
            return stated.frame, ()
        frame = frame_of_size(image, stated.size)
        if frame is None:
            return image.frame, (unsaid(self.path.name, image.frame),)
        turned = f"boxes of {self.path.name} were turned, since it states the {frame} sizes of photos that EXIF turns"
        return frame, () if frame == image.frame else (turned,)

    def rows(self, name: str) -> Int64:
        """The image's rows of the table, best score first, equal ones in the file's order."""
        if name not in self.places:
            return np.zeros(0, np.int64)
        place = self.places[name]
        rows = self._order[self._starts[place] : self._starts[place + 1]]
        return rows[np.argsort(-self.table.scores[rows], kind="stable")]


def _called(image: ListedImage) -> str:
    return f"image {image.id}" if image.name is None else image.name
