"""Which images of a truth the entries of a results file are of: by their names where they have any, else by ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines import coco, frames
from pipelines.errors import DataError
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.numbering import hint
from pipelines.names import match
from pipelines.notes import counted_images
from pipelines.types import Frame


class ResultImages:
    """Entry -> id of its image in the truth.

    A file_name, or a text in place of the image_id, counts as a name, and names decide (see `pipelines.names.match`),
    unless none of the file's is one of the truth's and there are ids.
    """

    def __init__(self, path: Path, entries: Sequence[Any], truth: GroundTruth) -> None:
        self._path, self._entries, self._truth = path, entries, truth
        ids, named = truth.image_ids(), dict(_named(entries))
        self._known = set(ids.values())
        matching = match(ids, named)
        self._found = {theirs: ids[ours] for ours, theirs in matching.found.items()}
        self._by_name = bool(self._found) or not any(id is not None for id in named.values())
        self._frames: dict[int, Frame] = {}
        self._notes = matching.notes(path.name)
        if named and not self._by_name:
            self._notes.append(f"none of the file names in {path.name} is in {truth.path.name}: its image ids decide")
        others = [name for name, id in self._found.items() if named[name] not in (None, id)]
        if others:
            ids_differ = f"{path.name} has other image ids than {truth.path.name}"
            self._notes.append(f"{ids_differ}: its file names decide, as for {counted_images(others)}")

    def __call__(self, entry: dict[str, Any]) -> int:
        """Raises DataError for an image that the truth's file does not have."""
        name = _name(entry)
        if name is None or not self._by_name:
            id = known_id(entry, "image_id", self._known, self._truth, self._entries)
        elif name in self._found:
            id = self._found[name]
        else:
            raise DataError(f"its image {coco.told(name)} is not in {self._truth.path.name}")
        if "frame" in entry and (frame := frames.stated(entry)):
            self._frames[id] = frame
        return id

    def notes(self) -> list[str]:
        """What should be known of the images of all entries so far, see `pipelines.notes`."""
        said: dict[str, list[str]] = {}
        for id, frame in self._frames.items():
            image = self._truth.images.get(id)
            if image is not None and image.frame != frame:
                theirs = "does not say in which" if image.frame is None else f"in {image.frame} ones"
                note = f"{self._path.name} counts in {frame} pixels of photos that EXIF turns, {self._truth.path.name}"
                note = f"{note} {theirs}"
                said.setdefault(note, []).append(image.name)
        return [*self._notes, *(f"{note}: {counted_images(names)}" for note, names in said.items())]


def known_id(
    entry: dict[str, Any], field: str, known: Collection[int], truth: GroundTruth, entries: Sequence[Any]
) -> int:
    """A field that must be one of the ids known. Raises DataError, which says what the ids of all entries may be."""
    id = coco.whole_number(entry, field)
    if id not in known:
        ids = {int(one[field]) for one in entries if isinstance(one, dict) and coco.is_whole(one.get(field))}
        raise DataError(f"'{field}' is {id}, which is not in {truth.path.name}: {hint(ids, known)}")
    return id


def _name(entry: Mapping[str, Any]) -> str | None:
    name = entry.get("file_name", entry.get("image_id"))
    return name if isinstance(name, str) and name else None


def _named(entries: Sequence[Any]) -> Iterator[tuple[str, int | None]]:
    """The names of images, each with the id that is given beside it."""
    for entry in entries:
        if isinstance(entry, dict) and (name := _name(entry)) is not None:
            yield name, int(entry["image_id"]) if coco.is_whole(entry.get("image_id")) else None
