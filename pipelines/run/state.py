"""The files of `OUT/.evsam/` that tell which run is in a folder, read as those of a stranger: a part may come from one.

settings.json  what decides the results; a resumed run must be asked for the same
sources.json   every image of the run, in order, without what may be secret in a URL
files.json     size and time of change of each image's file, to notice another one of the same name
machines.json  what rounds the last bits: of each machine, and number of threads, that has made results
merging        there while a merge is not finished
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pipelines.errors import DataError, UsageError
from pipelines.files import reading, to_json, write_json, write_text
from pipelines.images.sources import ImageSource
from pipelines.outputs import OUTPUTS
from pipelines.outputs.folder import STATE
from pipelines.urls import is_url

MERGING = "merging"
T = TypeVar("T")


def read_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of the run in `folder`, None when there is no run. Raises UsageError, DataError."""
    path = folder / STATE / "settings.json"
    return _read(path, _settings) if is_there(path) else None


def saved(folder: Path) -> list[str]:
    """Names of the outputs that the run in `folder` writes, none when there is no run."""
    names: list[str] = (read_settings(folder) or {}).get("save", [])
    return names


def read_sources(folder: Path) -> list[ImageSource]:
    """The images of the run in `folder`, in order, as they were written down, see `ImageSource.kept`."""
    return _read(folder / STATE / "sources.json", _sources)


def read_marks(folder: Path) -> dict[str, Any]:
    """Image name -> what told its content from another's, see `mark`."""
    path = folder / STATE / "files.json"
    return _read(path, _mapping) if is_there(path) else {}


def read_machines(folder: Path) -> list[dict[str, Any]]:
    """What each machine that has worked on the run was like, see `pipelines.run_info.rounding`."""
    path = folder / STATE / "machines.json"
    return _read(path, _mappings) if is_there(path) else []


def write_run(
    folder: Path, settings: Mapping[str, Any], sources: Sequence[ImageSource], marks: Mapping[str, Any]
) -> None:
    """Write down a run; its settings last, as they make it one. Raises OSError."""
    entries = [{key: value for key, value in asdict(source.kept()).items() if value} for source in sources]
    write_text(folder / STATE / "files.json", to_json(marks))
    write_text(folder / STATE / "sources.json", to_json(entries))
    write_json(folder / STATE / "settings.json", settings)


def add_machines(folder: Path, machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write down what is to work on the run, or has; returns a note when not all of it is alike. Raises OSError."""
    known = read_machines(folder)
    for machine in machines:
        if machine not in known:
            known.append(dict(machine))
    write_json(folder / STATE / "machines.json", known)
    differing = [key for key in dict.fromkeys(key for each in known for key in each) if _values(known, key)[1:]]
    if not differing:
        return []
    found = "; ".join(f"{key}: {', '.join(_values(known, key))}" for key in differing)
    return [f"not all of this run was made alike ({found}): masks may differ by a pixel from those of one that was"]


def mark(source: ImageSource) -> Any:
    """What tells an image's content from another's, None where there is no file."""
    if is_url(source.location):
        kept = source.kept()
        return kept.sha256 or kept.location
    try:
        status = Path(source.location).stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def is_there(path: Path) -> bool:
    """Whether a file is there. Raises DataError where that cannot be told."""
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return False
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return True


def _read(path: Path, shape: Callable[[Any], T]) -> T:
    """The content of a file. shape: returns it when it is of the right form, else raises what `reading` takes."""
    try:
        with reading(path, "the state of a run"):
            return shape(json.loads(path.read_text("utf-8")))
    except DataError as error:
        if isinstance(error.__cause__, OSError):
            raise
        raise UsageError(f"{path} is damaged: delete {path.parent} and start anew with --overwrite") from error


def _settings(content: Any) -> dict[str, Any]:
    settings = _mapping(content)
    if any(name not in OUTPUTS for name in settings.get("save", [])):
        raise ValueError("it saves what nobody can write")
    _mapping(settings.get("output_options", {}))
    return settings


def _sources(content: Any) -> list[ImageSource]:
    sources = [ImageSource(**fields) for fields in _list(content)]
    texts = ((source.name, source.location, source.stem or source.name) for source in sources)
    if not all(isinstance(text, str) for each in texts for text in each):
        raise TypeError("a name, a location and a stem are texts")
    return [source.kept() for source in sources]


def _mapping(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise TypeError("it is no object")
    return content


def _list(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise TypeError("it is no list")
    return content


def _mappings(content: Any) -> list[dict[str, Any]]:
    return [_mapping(each) for each in _list(content)]


def _values(machines: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(machine.get(key, "unknown")) for machine in machines))
