"""An exported folder: encoder and decoder, `export.json` that says what they are, and the gate's report.

`export.json` is written last, so a folder without it holds no export.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.errors import UsageError, WeightsError
from pipelines.files import make_folder, write_json, writing
from weights import digest

MANIFEST, REPORT = "export.json", "parity.json"


@dataclass(frozen=True)
class Made:
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
    return (folder / MANIFEST).is_file()


def clear(folder: Path, files: Sequence[str]) -> None:
    """Make the folder, and remove an earlier export from it. Raises SetupError when it cannot be written to."""
    make_folder(folder)
    with writing(folder):
        for name in (MANIFEST, REPORT, *files):
            (folder / name).unlink(missing_ok=True)


def keep(folder: Path, scratch: Path, files: Sequence[str], made: Made) -> None:
    """Move those of the files that are in `scratch` into the folder and write its `export.json`."""
    kept = [name for name in files if (scratch / name).exists()]
    for name in kept:
        shutil.move(scratch / name, folder / name)
    digests = {name: digest.sha256(folder / name) for name in kept}
    write_json(folder / MANIFEST, {**asdict(made), "files": digests})


def read(folder: Path) -> Made:
    """What the folder holds. Raises UsageError when it is no export."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        del content["files"]
        return Made(**content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{folder} is no folder that `evsam export` made: it has no {MANIFEST} that fits") from error


def verify(folder: Path, needed: Sequence[str]) -> None:
    """Raises WeightsError unless all its files, the needed ones among them, are as they were when they were checked."""
    digests = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    for name in dict.fromkeys([*needed, *digests]):
        path = folder / name
        if not path.is_file() or digest.sha256(path) != digests.get(name):
            raise WeightsError(
                f"{path} is missing, damaged or not the one that was checked: delete {folder} and export it again"
            )
