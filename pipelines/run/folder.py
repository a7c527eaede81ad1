"""The one door to a run's output folder, and to what it remembers between kills: `OUT/.evsam/`.

settings.json  what decides the results; a resumed run must be asked for the same
sources.json   every image of the run, in order, without what may be secret in a URL
files.json     size and time of change of each image's file, to notice another one of the same name
machines.json  what rounds the last bits: of each machine, and number of threads, that has made results
journal.jsonl  one record per finished image, see `pipelines.run.journal`
merging        there while a merge is not finished
lock           held by the run that writes here
scratch/       temporary files, emptied at every start

Every run goes the same way: `plan`, `hold`, `begin`, `journal` and, when all images are through, `finish`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from pipelines.errors import UsageError
from pipelines.files import make_folder, to_json, write_json, write_text
from pipelines.images.sources import ImageSource
from pipelines.names import file_stems
from pipelines.outputs import OUTPUTS, Destination, Output, files_of, remove_outputs
from pipelines.outputs.folder import STATE, scratch_folder
from pipelines.records import Record
from pipelines.run.journal import Journal
from pipelines.run.state import (
    check_same,
    is_there,
    made_by,
    mapping_of,
    mappings_of,
    mark,
    note_of_machines,
    read_state,
    settings_of,
    sources_of,
)
from pipelines.types import Category
from pipelines.urls import is_url

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What a run is to do in its folder.

    settings: what decides its results; a value may be what returns it, see `pipelines.run.loop.run`. sources: all
    images, each with the `stem` that its files are called by. goes_on: whether it goes on with an earlier run;
    replaced: outputs of an earlier run whose files are deleted.
    """

    settings: Mapping[str, Any]
    sources: tuple[ImageSource, ...]
    goes_on: bool
    replaced: tuple[str, ...]

    @property
    def stems(self) -> dict[str, str]:
        """Image name -> what its files are called before their extension."""
        return {source.name: source.stem or source.name for source in self.sources}


@dataclass(frozen=True)
class RunFolder:
    """The output folder of a run, and what is to become of a run that is in it already.

    resume: it goes on; overwrite: it is started anew, and what it wrote is deleted; merging: the folder is to hold the
    parts of a run, and the same merge, which was stopped, is started anew. With none of them it is left alone.
    """

    path: Path
    resume: bool = False
    overwrite: bool = False
    merging: bool = False

    @property
    def state(self) -> Path:
        return self.path / STATE

    @property
    def scratch(self) -> Path:
        return scratch_folder(self.path)

    # What is there

    def settings(self) -> dict[str, Any] | None:
        """The settings of the run that is there, None when there is none. Raises UsageError, DataError."""
        return self._read("settings.json", settings_of)

    def sources(self) -> list[ImageSource]:
        """The images of the run that is there, in order, as they were written down, see `ImageSource.kept`."""
        return read_state(self.state / "sources.json", sources_of)

    def machines(self) -> list[dict[str, Any]]:
        """What each machine that has worked on the run was like, see `pipelines.run_info.rounding`."""
        return self._read("machines.json", mappings_of) or []

    def _read(self, name: str, content: Callable[[Any], T]) -> T | None:
        path = self.state / name
        return read_state(path, content) if is_there(path) else None

    def journal(self, *, read_only: bool = False, at_once: bool = True) -> Journal:
        """What is finished, and is to be added. at_once: see `Journal`. Raises OSError, or DataError when read_only."""
        return Journal(self.state / "journal.jsonl", read_only=read_only, at_once=at_once)

    def is_merge(self) -> bool:
        """Whether what is there is a merge that is not finished."""
        return (self.state / "merging").exists()

    def earlier(self, settings: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The settings of the run that goes on, None when one starts anew. settings: those of the new one, if known.

        Raises UsageError when the folder holds a run of which nothing may become, or that had other settings, but for
        those that are still to be called; for a journal without settings, too.
        """
        if self.resume and self.overwrite:
            raise UsageError("--resume goes on with a run and --overwrite starts anew: choose one")
        if self.overwrite:
            return None
        there, journal = self.settings(), self.state / "journal.jsonl"
        if there is None and is_there(journal) and journal.stat().st_size:
            raise UsageError(
                f"{self.state / 'settings.json'} is missing, so that what is finished there may be of any run: "
                "start anew with --overwrite, or choose another output"
            )
        if there is None or (self.merging and self.is_merge() and there == settings):
            return None
        if not self.resume:
            others = "--overwrite to replace it, or choose another output"
            ways = others if self.merging else "--resume to go on with it or --overwrite to start anew"
            raise UsageError(f"{self.path} already holds a run: add {ways}")
        if settings is not None:
            check_same(there, settings, self.path)
        return there

    # The way of a run

    def plan(self, settings: Mapping[str, Any], sources: Sequence[ImageSource]) -> Plan:
        """What a run over these images is to do; writes nothing.

        Files of an earlier run's images are called as they were there. A resumed run keeps the images of the earlier
        one in the list, also those that have vanished since. Raises UsageError as `earlier` does, when a resumed run
        had other names for the same images or, as one part of several, other images.
        """
        goes_on = self.earlier(settings) is not None
        before = self.sources() if goes_on else []
        known = {source.name for source in sources}
        vanished = [source for source in before if source.name not in known]
        names = {_place(source.kept()): source.name for source in sources}
        for source in vanished:
            if name := names.get(_place(source)):
                raise UsageError(
                    f"{source.name} of the run in {self.path} would be called {name}, as the sources are others now: "
                    "repeat the earlier ones, or choose another output"
                )
        if goes_on and settings.get("shard", "1/1") != "1/1" and known != {source.name for source in before}:
            raise UsageError(
                f"{self.path} is one part of a run over {len(before)} images, and now there are others: all parts must "
                "see the same, so start all of them anew with --overwrite"
            )
        every = [*sources, *vanished]
        given = {source.name: source.stem for source in sources if source.stem}
        given |= {source.name: source.stem or source.name for source in before}
        stems = file_stems([source.name for source in every], given)
        named = tuple(replace(source, stem=stems[source.name]) for source in every)
        return Plan(settings, named, goes_on, () if self.resume else self._rewritten(settings.get("save", ())))

    def _rewritten(self, save: Sequence[str]) -> tuple[str, ...]:
        """Those of the outputs that the run which is there has written, too."""
        written = (self.settings() or {}).get("save", ()) if save else ()
        return tuple(name for name in written if name in save)

    @contextmanager
    def hold(self, plan: Plan) -> Iterator[None]:
        """Keep other runs out meanwhile.

        Raises UsageError when one is writing here, or has left since what makes another plan; SetupError, OSError.
        """
        make_folder(self.path, inner=self.scratch)
        try:
            lock = FileLock(self.state / "lock").acquire(blocking=False)
        except Timeout as error:
            raise UsageError(
                f"another run is writing {self.path}: wait until it ends, or choose another output"
            ) from error
        with lock:
            if self.plan(plan.settings, plan.sources).sources != plan.sources:
                raise UsageError(f"another run has been in {self.path} just now: try again")
            yield

    def begin(self, plan: Plan) -> None:
        """Write down the run; one that starts anew forgets what an earlier one finished. Raises OSError.

        Wherever this is killed, no image counts as finished whose files are gone.
        """
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True, exist_ok=True)
        settings = self.state / "settings.json"
        if not self.resume:
            (self.state / "journal.jsonl").unlink(missing_ok=True)
            (self.state / "machines.json").unlink(missing_ok=True)
            if settings.exists():
                (self.path / "run.json").unlink(missing_ok=True)
            remove_outputs(self.path, plan.replaced)
        if self.merging:
            (self.state / "merging").touch()
        else:
            (self.state / "merging").unlink(missing_ok=True)
        marks = {source.name: mark(source) for source in plan.sources}
        if self.resume:
            self._forget_changed(marks)
        else:
            settings.unlink(missing_ok=True)
        entries = [{key: value for key, value in asdict(source.kept()).items() if value} for source in plan.sources]
        write_text(self.state / "files.json", to_json(marks))
        write_text(self.state / "sources.json", to_json(entries))
        write_json(settings, plan.settings)  # last, as they make it a run

    def _forget_changed(self, marks: dict[str, Any]) -> None:
        """Have images whose files have changed since done again; those that have vanished keep their marks."""
        with self.journal() as journal:
            for name, earlier in (self._read("files.json", mapping_of) or {}).items():
                if marks.get(name) is None:
                    marks[name] = earlier
                elif earlier not in (None, marks[name]) and journal.finished(name):
                    image_id = journal.record(name).image_id
                    journal.add(Record(name, image_id, 0, 0, "failed", "the file has changed since"))

    def outputs(self, plan: Plan, categories: Iterable[Category]) -> list[Output]:
        """What writes the files that the plan's settings name. categories: all that instances can have."""
        by_id = {category.id: category for category in categories}
        locations = {source.name: source.location for source in plan.sources if not is_url(source.location)}
        model = made_by(plan.settings)
        destination = Destination(self.path, self.scratch, by_id, plan.stems, locations, model)
        options = plan.settings["output_options"]
        return [OUTPUTS[name].load()(destination, **options.get(name, {})) for name in plan.settings["save"]]

    def add_machines(self, machines: Iterable[Mapping[str, Any]]) -> list[str]:
        """Write down what is to work on the run, or has; returns a note when not all of it is alike. Raises OSError."""
        known = self.machines()
        for machine in machines:
            if machine not in known:
                known.append(dict(machine))
        write_json(self.state / "machines.json", known)
        return note_of_machines(known)

    def finish(self, info: Mapping[str, Any]) -> None:
        """Write down how the run ended: `run.json`. Raises OSError."""
        write_json(self.path / "run.json", info)
        (self.state / "merging").unlink(missing_ok=True)


def check_kept(sources: Iterable[ImageSource], folder: Path, replaced: Iterable[str]) -> None:
    """Raise UsageError when an output that is replaced in a folder would be deleted with what is to be read."""
    removed = [path.resolve() for path in files_of(folder, replaced)]
    for location in (Path(source.location).resolve() for source in sources if removed):
        if any(location.is_relative_to(path) for path in removed):
            raise UsageError(f"{location} lies in what --overwrite deletes: choose another output folder")


def _place(source: ImageSource) -> tuple[str, str | None]:
    """What tells where an image lies, of a source as it is kept."""
    return source.location, source.sha256
