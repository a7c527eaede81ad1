"""What is to be converted: a run of evsam, or labels, and where the photographs are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import DataError, UsageError
from pipelines.labels import LABELS, Asked, Labels
from pipelines.labels.files import digest_of
from pipelines.labels.glimpse import find_format
from pipelines.labels.jsonl import categories_of_run, checked
from pipelines.labels.left_out import LeftOut
from pipelines.outputs.folder import STATE
from pipelines.records import Record
from pipelines.run.folder import RunFolder
from pipelines.run.journal import Journal
from pipelines.run.state import made_by
from pipelines.urls import is_url


@dataclass(frozen=True)
class Source:
    """form: the format, "run" for a run of evsam; sha256: of what is read; photos: their folder, where it is given;
    model: what found the instances, where that is known."""

    path: Path
    form: str
    labels: Labels
    sha256: str
    photos: Path | None
    model: str | None = None

    def notes(self) -> list[str]:
        """What was left out of the records, once these have been streamed."""
        return self.labels.left_out.notes(self.path.name)


def open_source(path: Path, form: str | None, photos: Path | None, names: tuple[str, ...] | None) -> Source:
    """form: the format, None to look. Raises DataError, UsageError, UnknownNameError."""
    if not path.is_file() and not path.is_dir():
        raise DataError(f"there is no file or folder {path}")
    if photos is not None and not photos.is_dir():
        raise DataError(f"{photos} is no folder of photos")
    if form is not None:
        LABELS.check(form)
    elif (path / STATE).is_dir():
        journal = path / STATE / "journal.jsonl"
        labels = _read_run(path)
        return Source(path, "run", labels, digest_of(journal), photos, made_by(RunFolder(path).settings() or {}))
    row, found = find_format(path, form, option="--from")
    return Source(path, row.name, row.load()(found, Asked(photos=photos, names=names)), digest_of(path), photos)


def _read_run(path: Path) -> Labels:
    folder = RunFolder(path)
    categories = categories_of_run(path / "run.json")
    if folder.settings() is None or folder.is_merge() or not (path / "run.json").exists():
        raise UsageError(f"{path} holds no finished run: finish it first, with the command that began it")
    sources = folder.sources()
    with folder.journal(read_only=True) as journal:
        names = [source.name for source in sources if journal.status(source.name)]
    known = {category.id for category in categories}
    here = {source.name: source.location for source in sources if not is_url(source.location)}
    photos = {name: Path(location) for name, location in here.items()}
    return Labels(tuple(categories), _records(path, journal, names, known), len(names), LeftOut(), photos, ids=True)


def _records(path: Path, journal: Journal, names: Sequence[str], known: set[int]) -> Iterator[Record]:
    for name in names:
        record = checked(journal.record(name))
        if not all(instance["category_id"] in known for instance in record.instances):
            raise DataError(f"{path / 'run.json'} does not name every class of {name}")
        yield record
