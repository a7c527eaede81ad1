"""An exported folder: encoder and decoder, `export.json` that says what they are, and the gate's report.

`export.json` is written last, so a folder without it holds no export.
"""

from __future__ import annotations

import shutil
import tempfile
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError, WeightsError
from pipelines.files import make_folder, read_json, reading, write_json, writing
from pipelines.onnx_files import contained
from pipelines.printable import brief
from pipelines.sam.network import EXPORTED
from weights import digest

REPORT = "parity.json"


@dataclass(frozen=True)
class ExportManifest:
    """What decides an export. weights: sha256 of the checkpoint. versions: of the packages that write the files;
    machine: what else the files are bound to.
    """

    model: str
    input_size: int
    weights: str
    format: str
    precision: str
    versions: Mapping[str, str]
    machine: Mapping[str, str]


def is_export(folder: Path) -> bool:
    """Whether `folder` holds a finished export."""
    return (folder / EXPORTED).is_file()


def clear(folder: Path, files: Sequence[str]) -> None:
    """Make the folder, and remove an earlier export from it. Raises SetupError when it cannot be written to."""
    make_folder(folder)
    with writing(folder):
        _remove(folder, files)


@contextmanager
def making(folder: Path, files: Sequence[str]) -> Iterator[Path]:
    """A folder in `folder` for what is not finished. Where the block fails, nothing of an export stays behind.

    Raises SetupError when `folder` cannot be written to, as happens when the disk is full.
    """
    try:
        with writing(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as name:
            yield Path(name)
    except BaseException:
        with suppress(OSError):
            _remove(folder, files)
        raise


def _remove(folder: Path, files: Sequence[str]) -> None:
    for name in (EXPORTED, REPORT, *files):
        (folder / name).unlink(missing_ok=True)


def keep(folder: Path, scratch: Path, files: Sequence[str], made: ExportManifest) -> None:
    """Move those of the files that are in `scratch` into the folder and write its `export.json`."""
    kept = [name for name in files if (scratch / name).exists()]
    for name in kept:
        shutil.move(scratch / name, folder / name)
    digests = {name: digest.sha256(folder / name) for name in kept}
    write_json(folder / EXPORTED, {**asdict(made), "files": digests})


def read(folder: Path) -> ExportManifest:
    """What the folder holds. Raises UsageError when it is no export, DataError when its export.json is damaged."""
    return _read(folder)[0]


def verify(folder: Path, needed: Sequence[str]) -> None:
    """Raises WeightsError unless all its files, the needed ones among them, are as they were when they were checked,
    and lie in it; DataError when its export.json is damaged."""
    _, digests = _read(folder)
    for name in dict.fromkeys([*needed, *digests]):
        if not contained(folder, name) or digest.sha256(folder / name) != digests.get(name):
            raise WeightsError(
                f"{folder / name} is missing, damaged or not the one that was checked: delete {folder} and export it "
                "again"
            )


def _read(folder: Path) -> tuple[ExportManifest, Mapping[str, str]]:
    """Its `export.json`, and the sha256 of each file that it names."""
    path = folder / EXPORTED
    if not path.is_file():
        raise UsageError(f"{folder} is no folder that `evsam export` made: it has no {EXPORTED}")
    what = "what `evsam export` writes"
    content = read_json(path, what)
    with reading(path, what):
        if not isinstance(content, dict):
            raise ValueError(f"{brief(content)} in place of an object")
        for name, kind in typing.get_type_hints(ExportManifest).items() | {("files", Mapping[str, str])}:
            _check(name, content[name], kind)
        digests = content.pop("files")
        return ExportManifest(**content), digests


def _check(name: str, value: Any, kind: Any) -> None:
    """Raises ValueError when a field's value is not of the kind that ExportManifest says: text, a whole number, or
    texts by name."""
    table = typing.get_origin(kind) is not None
    fits = type(value) is (dict if table else kind)
    if not fits or (table and not all(isinstance(each, str) for each in value.values())):
        raise ValueError(f"{name} is {brief(value)}")
