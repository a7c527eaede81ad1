"""A run: images in, a job's instances out to every output. Here is what a run and a job ask of each other.

`loop` runs a job over the images, `merge` joins the parts of a run; `folder` is the door to what both write and keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from pipelines.images import MAX_PIXELS

if TYPE_CHECKING:
    from pipelines.errors import ImageError
    from pipelines.records import Record
    from pipelines.run.stages import StageClock
    from pipelines.types import Category, Image, Instances


@dataclass(frozen=True)
class RunConfig:
    """What every run is told. sources: see `pipelines.images.sources.resolve`; output: the folder to write.

    save: names of `OUTPUTS`; output_options: by name, keyword arguments that an output takes. batch: images handled
    together, None for what the job likes. shard: (i, n), the i-th of n parts. resume: go on with the run in `output`;
    overwrite: start anew although there is one, and delete what it wrote for the same outputs. offline: never touch the
    network, None for what EVSAM_OFFLINE says.
    """

    sources: tuple[str, ...]
    output: Path
    save: tuple[str, ...] = ("coco", "overlay")
    output_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    batch: int | None = None
    shard: tuple[int, int] = (1, 1)
    max_pixels: int = MAX_PIXELS
    resume: bool = False
    overwrite: bool = False
    offline: bool | None = None


Prepared = TypeVar("Prepared")
Result: TypeAlias = "Instances | ImageError"
"""An image's instances, or the reason why it has none."""
Finish: TypeAlias = "Callable[[], Result]"
"""The rest of the work on an image, which another thread may do."""


def settled(result: Result) -> Finish:
    """What is left to do where nothing is."""
    return lambda: result


class Job(Protocol[Prepared]):
    """What is done to the images.

    It may have `image_ids`, name -> id: what the images are to be known by instead of the ids that it was made with.
    """

    @property
    def categories(self) -> tuple[Category, ...]:
        """All classes that its instances can have."""

    @property
    def batch(self) -> int:
        """How many images it likes to see at once."""

    def prepare(self, image: Image) -> Prepared:
        """What can be done to an image alone, without the device; called in several threads. Raises ImageError."""

    def __call__(self, images: Sequence[Prepared], clock: StageClock) -> Iterator[Finish]:
        """What gives each image's result, in order."""

    def report(self) -> Mapping[str, Any]:
        """What `run.json` should say of its work; under "notes", sentences for the user, see `pipelines.notes`."""


@dataclass(frozen=True)
class Summary:
    """How a run ended. info: what `run.json` holds."""

    info: Mapping[str, Any]

    @property
    def counts(self) -> Mapping[str, int]:
        """Images by status."""
        return {status: count for status, count in self.info["images"].items() if status != "total"}

    @property
    def failed(self) -> Mapping[str, str]:
        """name -> reason."""
        return dict(self.info["failed"])

    @property
    def notes(self) -> Sequence[str]:
        """See `pipelines.notes`."""
        return list(self.info["notes"])

    @property
    def empty(self) -> Mapping[str, str]:
        """name -> reason of the images that were searched in vain."""
        return dict(self.info["empty"])


class Watcher(Protocol):
    """Told of the progress of a run, or of other work that takes time, which may know no more than `within`."""

    def started(self, total: int, finished: int) -> None:
        """total: images of this run; finished: those that an earlier run had finished."""

    def recorded(self, record: Record) -> None:
        """One more image has its record. Called from the writing thread."""

    def within(self, name: str, done: int, total: int) -> None:
        """Of an image in work, so many of its prompts are done, or of other work so many of its parts; at first none.

        It may end with fewer than all.
        """


class Silent:
    """A watcher that says nothing."""

    def started(self, total: int, finished: int) -> None: ...

    def recorded(self, record: Record) -> None: ...

    def within(self, name: str, done: int, total: int) -> None: ...
