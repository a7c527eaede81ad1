"""What format a file or folder of labels is in: told by what it holds, and never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipelines import coco
from pipelines.errors import DataError
from pipelines.files import reading
from pipelines.labels import LABELS, Asked, LabelRow, Labels
from pipelines.labels.files import SUFFIXES, label_files
from pipelines.labels.json_stream import entries
from pipelines.labels.xml import root_of

_START = 2**16
_FAR_ENOUGH = 2**20
"""Bytes of a JSON file in which its fields are looked for."""
_LOOKED_AT = 20
"""Files of each suffix that tell what a folder holds."""
_NUMBERS = re.compile(rb"\s*\d+(\.0*)?(\s+[-+.\deE]+){4,}\s*$")


@dataclass(frozen=True)
class Glimpse:
    """The first that is seen of a file.

    root: the name of XML's root. listed: whether it is a JSON list; keys: the names in JSON's object, or in the first
    object of its list; lists: those in its object that are lists. of_numbers: whether its first line is that of a YOLO
    text file. start: its first bytes.
    """

    root: str | None = None
    listed: bool = False
    keys: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    of_numbers: bool = False
    start: bytes = b""

    @property
    def header(self) -> list[bytes]:
        """The columns of a CSV; nothing where the first line has no comma."""
        line = self.start.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
        return [name.strip(b' \r"').lower() for name in line.split(b",")] if b"," in line else []


def look_at(path: Path) -> Glimpse:
    """Raises DataError for a file that cannot be read."""
    with reading(path, "a file of labels"), coco.named(str(path)), path.open("rb") as file:
        start = file.read(_START)
        first = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if first in (b"{", b"["):
            file.seek(0)
            keys, lists = _keys(path)
            return Glimpse(listed=first == b"[", keys=keys, lists=lists, start=start)
    if first == b"<" or start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Glimpse(root=root_of(start), start=start)
    line = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    return Glimpse(of_numbers=bool(_NUMBERS.match(line)), start=start)


def _keys(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """`Glimpse.keys` and `Glimpse.lists`."""
    keys, lists = set[str](), set[str]()
    with path.open("rb") as file:
        try:
            for entry in entries(file):
                if entry.key is None:
                    return frozenset(entry.value if isinstance(entry.value, dict) else ()), frozenset()
                keys.add(entry.key)
                if entry.starts_list:
                    lists.add(entry.key)
                if entry.stop > _FAR_ENOUGH:
                    break
        except DataError:
            if not keys:
                raise
            # else whoever reads it all will say so; of lines of JSON it is the second that is too much
    return frozenset(keys), frozenset(lists)


def formats_of(path: Path) -> list[LabelRow]:
    """Those that a file may be of."""
    seen = look_at(path)
    return [row for row in LABELS.values() if row.sign(seen)]


def of_a_tool(path: Path) -> bool:
    """Whether a file, or any in a folder, is labels, but no COCO and no CSV. A file that is damaged is not."""
    try:
        found = _in_folder(path, None) if path.is_dir() else {row.name for row in formats_of(path)}
    except DataError:
        return path.is_dir()  # which holds too much
    return any(name not in ("coco", "coco-results", "csv") for name in found)


def _say_which(option: str | None) -> str:
    return f"say which with {option}" if option else "name a folder of one format"


def find_format(path: Path, name: str | None = None, *, option: str | None = None) -> tuple[LabelRow, Path]:
    """The format, and the file or folder that its reader takes. name: of the format, None to look; option: what names
    one on the command line, if anything does. Raises DataError where nothing or too much is found, UnknownNameError.
    """
    if not path.is_dir():
        found = {name: path} if name else {row.name: path for row in formats_of(path)}
    else:
        found = _in_folder(path, name)
    if len(found) > 1:
        those = " and ".join(
            f"{kind} ({file.relative_to(path) if file != path else file.name})" for kind, file in found.items()
        )
        raise DataError(f"{path} may be read as {those}: {_say_which(option)}")
    if not found:
        known = "; ".join(row.summary for row in LABELS.values())
        raise DataError(f"{path} holds no labels that evsam reads: {known}")
    ((kind, file),) = found.items()
    row = LABELS[kind]
    return row, path if row.many else file


def _in_folder(folder: Path, name: str | None) -> dict[str, Path]:
    """Each format that files of the folder are in, and the first of its files."""
    looked_at = dict.fromkeys(SUFFIXES, 0)
    found: dict[str, list[Path]] = {}
    for file in label_files(folder):
        suffix = file.suffix.lower()
        looked_at[suffix] += 1
        if looked_at[suffix] <= _LOOKED_AT:
            for row in formats_of(file):
                if name in (None, row.name):
                    found.setdefault(row.name, []).append(file)
    if name and not found:  # files that are damaged where one looks first
        found[name] = list(label_files(folder, LABELS[name].suffixes))
    for kind, files in found.items():
        if not LABELS[kind].many and len(files) > 1:
            those = ", ".join(str(file.relative_to(folder)) for file in islice(files, 3))
            raise DataError(f"{folder} holds several files of {LABELS[kind].summary}: name one of them: {those}")
    return {kind: files[0] for kind, files in found.items() if files}


def open_labels(path: Path, asked: Asked, name: str | None = None, *, option: str = "--box-format") -> Labels:
    """What a file or folder holds. name, option: see `find_format`. Raises DataError, UnknownNameError, and from its
    records, too."""
    if name is not None:
        LABELS.check(name)
    row, found = find_format(path, name, option=option)
    labels: Labels = row.load()(found, asked)
    return labels
