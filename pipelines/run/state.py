"""What tells which run is in a folder: the files of `OUT/.evsam/`, read as those of a stranger, and compared.

They may be of one: of a part of a merge.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipelines.errors import DataError, UsageError
from pipelines.files import reading
from pipelines.images.sources import ImageSource
from pipelines.outputs import OUTPUTS
from pipelines.urls import is_url

T = TypeVar("T")
_TOLD = 3
"""Settings that are told of those that differ."""


def read_state(path: Path, content: Callable[[Any], T]) -> T:
    """What is in a file. content: gives it where its JSON is of the right form, else raises what `reading` takes.

    Raises UsageError for a file that is damaged, DataError for one that cannot be read.
    """
    try:
        with reading(path, "the state of a run"):
            return content(json.loads(path.read_text("utf-8")))
    except DataError as error:
        if isinstance(error.__cause__, OSError):
            raise
        raise UsageError(f"{path} is damaged: delete {path.parent} and start anew with --overwrite") from error


def settings_of(content: Any) -> dict[str, Any]:
    settings = mapping_of(content)
    if any(name not in OUTPUTS for name in settings.get("save", [])):
        raise ValueError("it saves what nobody can write")
    mapping_of(settings.get("output_options", {}))
    return settings


def sources_of(content: Any) -> list[ImageSource]:
    sources = [ImageSource(**fields) for fields in _list_of(content)]
    texts = ((source.name, source.location, source.stem or source.name) for source in sources)
    if not all(isinstance(text, str) for each in texts for text in each):
        raise TypeError("a name, a location and a stem are texts")
    return [source.kept() for source in sources]


def mappings_of(content: Any) -> list[dict[str, Any]]:
    return [mapping_of(each) for each in _list_of(content)]


def mapping_of(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise TypeError("it is no object")
    return content


def _list_of(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise TypeError("it is no list")
    return content


def check_same(earlier: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raise UsageError for settings of the run in `folder` that are others now, but for what is still to be called."""
    then = dict(_one_by_one({key: value for key, value in earlier.items() if not callable(now.get(key))}))
    today = dict(_one_by_one({key: value for key, value in now.items() if not callable(value)}))
    changed = [key for key in dict.fromkeys([*then, *today]) if then.get(key) != today.get(key)]
    if changed:
        told = "; ".join(f"{key}: {then.get(key)!r} then, {today.get(key)!r} now" for key in changed[:_TOLD])
        more = f"; and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
        raise UsageError(f"the run in {folder} had other settings ({told}{more}): repeat them, or use --overwrite")


def _one_by_one(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting as JSON has it, those of a mapping by names such as "prompts.conf"."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _one_by_one(value, f"{within}{key}.")
        else:
            yield within + key, json.loads(json.dumps(value))


def made_by(settings: Mapping[str, Any]) -> str:
    """What found the instances of a run, or of that which was converted: `evsam efficientvit-sam-l2 yolov8m`."""
    if isinstance(settings.get("model"), str):
        return str(settings["model"])
    models = settings.get("sam"), settings.get("prompts", {}).get("model")
    return " ".join(["evsam", *(Path(model).name for model in models if isinstance(model, str))])


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


def note_of_machines(machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note when not all that have worked on a run are alike."""
    keys = dict.fromkeys(key for machine in machines for key in machine)
    values = {key: dict.fromkeys(str(machine.get(key, "unknown")) for machine in machines) for key in keys}
    found = "; ".join(f"{key}: {', '.join(those)}" for key, those in values.items() if len(those) > 1)
    note = f"not all of this run was made alike ({found}): masks may differ by a pixel from those of one that was"
    return [note] if found else []
