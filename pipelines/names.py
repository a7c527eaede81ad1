"""The names of images: what a run calls them, and which image is meant where a file gives a name.

A name is a path below some folder. Files write one and the same name in several ways: with accents composed or not,
with Windows' separator, with other folders or none, without the extension, as part of a URL, in other case. `match`
tries these one after another, from what can hardly be wrong to what has to be told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from unicodedata import normalize
from urllib.parse import unquote

from pipelines.errors import UsageError

_COMPONENT_BYTES = 200  # file systems allow 255; outputs add numbers and extensions


# What a run calls its images


def safe(name: str) -> str:
    """A relative POSIX path that stays in the folder it is joined to and is one line of text."""
    return "/".join(_safe_component(part) for part in PurePosixPath(name).parts if part != "/") or "_"


def is_safe(name: str) -> bool:
    """Whether `name` is a relative POSIX path that stays in the folder it is joined to and is one line of text."""
    return all(part and _plain(part) == part for part in name.split("/"))


def _safe_component(part: str) -> str:
    """Replace what a file system or a line of text cannot hold, and shorten what it cannot store."""
    part = _plain(part)
    if len(part.encode()) > _COMPONENT_BYTES:
        suffix = PurePosixPath(part).suffix[:20]
        part = part.encode()[: _COMPONENT_BYTES - len(suffix.encode())].decode(errors="ignore") + suffix
    return part


def _plain(part: str) -> str:
    part = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\]", "_", part)
    part = re.sub(r"^([A-Za-z]):", r"\1_", part)
    return part if part.strip(". ") else "_" * len(part)


def distinct(names: Sequence[str]) -> list[str]:
    """Number (`a-2.jpg`) the names already in use, and those that are or become a folder of another name."""
    keys = [folded(name) for name in names]
    folders = {str(folder) for key in keys for folder in PurePosixPath(key).parents}
    reserved = {folder[: end.start()] for folder in folders for end in re.finditer(r"\.|$", folder)}
    taken = reserved.union(keys)  # what a numbered name must not be
    used = set(reserved)
    last: Counter[str] = Counter()
    result = []
    for name, key in zip(names, keys, strict=True):
        path, number_key = PurePosixPath(name), key
        if key in used:
            while key in taken:
                last[number_key] += 1
                name = str(path.with_name(f"{path.stem}-{last[number_key] + 1}{path.suffix}"))
                key = folded(name)
        taken.add(key)
        used.add(key)
        result.append(name)
    return result


def folded(name: str) -> str:
    """The same for names that differ in case, or in how their accents are written, alone."""
    return normalize("NFC", normalize("NFC", name).casefold())


def file_stems(names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """What the files of each image are called, before their extension: its name without its own, unless that is also
    another's, or would be a folder of another or leave its own; then its whole name.

    names: as `distinct` gives them. given: what is settled already, of some of them. Raises UsageError where a new name
    is what the files of a settled one are called, or a folder of them.
    """
    stems = {name: str(PurePosixPath(name).with_suffix("")) for name in names}
    folders = {str(folder) for name in names for folder in PurePosixPath(folded(name)).parents}
    reserved = {folder[: end.start()] for folder in folders for end in re.finditer(r"\.|$", folder)}
    for name, stem in given.items():
        if folded(stem) in reserved and stem != name:
            raise UsageError(f"the files of {name} lie where a folder of other images would: choose another output")
    settled = {folded(stem): name for name, stem in given.items()}
    whole = {folded(name) for name in names} | set(settled)
    times = Counter(folded(stem) for stem in stems.values())

    def free(stem: str) -> bool:
        key = folded(stem)
        alone = times[key] == 1 and key not in whole and key not in reserved
        return alone and is_safe(stem) and not stem.endswith((".", " "))

    chosen = {name: given.get(name) or (stem if free(stem) else name) for name, stem in stems.items()}
    for name, stem in chosen.items():
        if (other := settled.get(folded(stem), name)) != name:
            raise UsageError(f"the files of {name} would be called as those of {other} are: choose another output")
    return chosen


# Which image a name means


def normal(name: str) -> str:
    """The one form that names are compared in: accents composed (Unicode's NFC), `/` for `\\`, no `./`."""
    return str(PurePosixPath(normalize("NFC", name).replace("\\", "/")))


def last_part(name: str) -> str:
    """A name in its normal form without folders."""
    return normal(name).rpartition("/")[2]


def stem(name: str) -> str:
    """`last_part` without its extension."""
    return PurePosixPath(last_part(name)).stem


@dataclass(frozen=True)
class Matching:
    """Names of ours -> those of another's that mean the same.

    differences: what the names differ in, where that has to be told -> the pairs that do.
    """

    found: Mapping[str, str]
    differences: Mapping[str, Sequence[tuple[str, str]]]

    def notes(self, file: str) -> list[str]:
        """A sentence for each kind of difference. file: what gives the other's names."""
        return [_note(difference, pairs, file) for difference, pairs in self.differences.items()]


def _note(difference: str, pairs: Sequence[tuple[str, str]], file: str) -> str:
    ours, theirs = pairs[0]
    if len(pairs) == 1:
        return f"{ours} was taken for {theirs} of {file}: the names differ in {difference} alone"
    others = f"others of {file} that differ in {difference} alone"
    return f"{len(pairs)} names were taken for {others}, such as {ours} for {theirs}"


@dataclass(frozen=True)
class _Step:
    """Names mean the same when their keys are equal. difference: what they differ in, "" where that goes without
    saying, as it does where one name only has more folders in front."""

    difference: str
    ours: Callable[[str], str]
    theirs: Callable[[str], str]


def _spelled(name: str) -> str:
    return normal(unquote(name))


def _any_case(name: str) -> str:
    return folded(_spelled(name))


def _of(form: Callable[[str], str], part: Callable[[str], str]) -> Callable[[str], str]:
    """The part of a name in a form."""
    return lambda name: part(form(name))


_FOLDERS, _PERCENT, _CASE = "their folders", "percent-encoding", "upper and lower case"
_NAMES = (
    _Step("", str, str),
    _Step("", normal, normal),
    _Step("", safe, safe),
    _Step(_FOLDERS, last_part, last_part),
    _Step("", stem, normal),
    _Step(_PERCENT, _spelled, _spelled),
    _Step(_PERCENT, _of(_spelled, last_part), _of(_spelled, last_part)),
    _Step(_CASE, _any_case, _any_case),
    _Step(_CASE, _of(_any_case, last_part), _of(_any_case, last_part)),
    _Step(_CASE, _of(_any_case, stem), _any_case),
)
_PAIRS = (
    _Step("", lambda name: PurePosixPath(name).stem, lambda name: PurePosixPath(name).stem),
    _Step("", stem, stem),
    _Step("", normal, stem),
    _Step(_PERCENT, _of(_spelled, stem), _of(_spelled, stem)),
    _Step(_CASE, _of(_any_case, stem), _of(_any_case, stem)),
    _Step(_CASE, _any_case, _of(_any_case, stem)),
)


def match(ours: Iterable[str], theirs: Iterable[str]) -> Matching:
    """Find each name of ours among theirs, each taken once: as it is, in its normal form, as a run calls it, without
    folders, without extension, decoded, in any case.

    In a step, a key that two names of either side share is nobody's: names that differ in nothing else are told apart
    by an earlier step or not at all.
    """
    return _climb(_NAMES, ours, theirs)


def pair(ours: Iterable[str], theirs: Iterable[str]) -> Matching:
    """As `match`, for files of two folders that belong together: for `a.jpg` there is `a.png`, or else `a.jpg.png`."""
    return _climb(_PAIRS, ours, theirs)


def _climb(ladder: Sequence[_Step], ours: Iterable[str], theirs: Iterable[str]) -> Matching:
    ours, theirs = list(dict.fromkeys(ours)), list(dict.fromkeys(theirs))
    found: dict[str, str] = {}
    taken: set[str] = set()
    differences: dict[str, list[tuple[str, str]]] = {}
    for step in ladder:
        if len(found) == min(len(ours), len(theirs)):
            break
        theirs_by_key = _unique(step.theirs, theirs)
        for key, mine in _unique(step.ours, ours).items():
            other = theirs_by_key.get(key)
            if other is None or mine in found or other in taken:
                continue
            found[mine] = other
            taken.add(other)
            if step.difference and not _ends_alike(mine, other):
                differences.setdefault(step.difference, []).append((mine, other))
    return Matching({name: found[name] for name in ours if name in found}, differences)


def _unique(key: Callable[[str], str], names: Sequence[str]) -> dict[str, str]:
    """key(name) -> name, without the keys that several names share."""
    keys = [key(name) for name in names]
    times = Counter(keys)
    return {key: name for key, name in zip(keys, names, strict=True) if times[key] == 1}


def _ends_alike(one: str, other: str) -> bool:
    one, other = "/" + normal(one), "/" + normal(other)
    return one.endswith(other) or other.endswith(one)
