"""From what the user names to an ordered list of images, each with a name that is unique, safe and stable.

An image's name is its path below the folder it was found in: a folder given as a source, the folder of a file, the
part of a glob before its first wildcard, the folder of a list. With several sources it is the path below the
deepest folder that holds them all (`2020/images/a.jpg`, `2021/images/a.jpg`).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from pipelines.errors import UsageError
from pipelines.images.search import is_pattern, walk
from pipelines.names import distinct, safe
from pipelines.not_yet import no_photograph
from pipelines.urls import has_scheme, is_url, shown_location, shown_url

# What a folder is searched for, and Pillow's name of the format. Pillow reads HEIF and JXL only with a plugin: they
# are listed so that such a photo fails with a reason instead of being passed over.
IMAGE_EXTENSIONS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".webp": "WEBP",
    ".gif": "GIF",
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".jp2", ".j2k", ".jpx"), "JPEG2000"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), "PPM"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys((".heic", ".heif"), "HEIF"),
    ".jxl": "JXL",
}


@dataclass(frozen=True)
class ImageSource:
    """One image of a run. name: its unique key, a relative POSIX path; location: its path or URL. sha256: None, but
    where location is a URL without what may be secret, from which nothing can be fetched: the hash of the whole. stem:
    what its own files are called before their extension, see `pipelines.names.file_stems`; None: by its name.

    A name never leaves the folder it is joined to, holds no control character, and differs from every other name
    even where case is ignored. No name is a folder of another one, nor becomes one when an extension is added.
    """

    name: str
    location: str
    sha256: str | None = None
    stem: str | None = None

    def kept(self) -> ImageSource:
        """The image as it may be written down. Two of one location stay alike, and of two they stay apart."""
        shown = shown_location(self.location)
        if shown == self.location:
            return self
        return replace(self, location=shown, sha256=hashlib.sha256(os.fsencode(self.location)).hexdigest())


@dataclass(frozen=True)
class _Found:
    """An image without its name. path: absolute POSIX path, links kept, or /host/path of a URL; root: the folder
    that its source searched."""

    location: str
    path: PurePosixPath
    root: PurePosixPath


def resolve(sources: Sequence[str], *, output: Path | None = None) -> tuple[ImageSource, ...]:
    """List the images that `sources` name, each once, in the order of the sources and sorted within a folder.

    A source is an image, a folder (searched with its subfolders for IMAGE_EXTENSIONS in any case, hidden ones
    passed over, links followed), a glob (`photos/**/*.jpg`), a list (.txt: a path or URL per line, paths relative to
    the list; blank lines and # comments allowed), an http(s) URL, or `-` for a list on standard input.
    output: the run's output folder, never searched; nor are the pictures that a run wrote into another one.

    Raises UsageError when a source does not exist, cannot be read or yields no image, and for what a list names that
    is known to be no photograph, such as a video. Other entries of a list are not looked at here: one that is missing
    fails later, as an image of the run, and is not lost.
    """
    if not sources:
        raise UsageError("no images: name a file, a folder, a glob, a list, a URL, or - for a list on standard input")
    images: dict[str, _Found] = {}
    for source in sources:
        for found in _find(source, output):
            images.setdefault(_identity(found.location), found)
    return _named(list(images.values()))


def image_ids(sources: Iterable[ImageSource]) -> dict[str, int]:
    """COCO image id by name: the number in the file name if every image has one of its own, else 1 to N in order.

    Call it on all images of the run, before `shard`.
    """
    names = [source.name for source in sources]
    stems = [PurePosixPath(name).stem for name in names]
    if all(re.fullmatch(r"0*[0-9]{1,16}", stem) for stem in stems):
        ids = [int(stem) for stem in stems]
        if len(set(ids)) == len(ids) and max(ids, default=0) < 2**53:
            return dict(zip(names, ids, strict=True))
    return {name: number for number, name in enumerate(names, 1)}


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/8"` -> (2, 8): the second of eight shards. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    index, total = (int(number) for number in match.groups()) if match else (0, 0)
    if not 1 <= index <= total:
        raise UsageError(f"shard {text!r} is not i/n with 1 <= i <= n, such as 2/8")
    return index, total


def shard(sources: Sequence[ImageSource], index: int, total: int) -> tuple[ImageSource, ...]:
    """Shard `index` (from 1) of `total`. Each image is in exactly one, and sizes differ by one at most.

    Shards are contiguous: joining them in order gives the order of the whole, and images that lie together, often
    alike in size, stay together in a batch.
    """
    if not 1 <= index <= total:
        raise ValueError(f"shard {index} of {total}")
    return tuple(sources[len(sources) * (index - 1) // total : len(sources) * index // total])


# Finding


def _find(source: str, output: Path | None) -> list[_Found]:
    if source == "-":
        return _listed(_standard_input(), "standard input", Path())
    if has_scheme(source):
        _check_address(source)
        return _rooted([source])
    if not source or "\0" in source:
        raise UsageError(f"the source {source!r} names no file")
    path = Path(source)
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return _in_folder(path, output)
        if path.suffix.lower() == ".txt":
            return _listed(path.read_bytes(), f"the list {source!r}", path.parent)
        _check_kind(source, there=True)
        return _rooted([source])
    except OSError as error:
        _check_kind(source)
        if is_pattern(source):
            return _globbed(path, output)
        raise UsageError(f"cannot read the source {source!r}: {error.strerror}") from None


def _check_kind(location: str, *, there: bool = False, where: str = "") -> None:
    """Raise UsageError for what is known to be no photograph. there: it is a file, whose name may be a number."""
    if (known := no_photograph(location)) and not (there and location.isdecimal()):
        raise UsageError(f"{where}{known}")


def _check_address(address: str, where: str = "") -> None:
    """Raise UsageError for a URL of what is known to be no photograph, or of another kind than http."""
    shown = shown_location(address)
    _check_kind(shown, where=where)
    if not is_url(address):
        raise UsageError(f"{where}{shown} is no image: URLs are read over http and https alone")


def _standard_input() -> bytes:
    try:
        if sys.stdin is not None:
            return sys.stdin.buffer.read()
        reason: object = "it is closed"
    except OSError as error:
        reason = error.strerror or error
    raise UsageError(f"no list can be read from standard input: {reason}")


def _in_folder(folder: Path, output: Path | None) -> list[_Found]:
    images = [str(path) for path in walk(folder, output) if _is_image(path)]
    if not images:
        raise UsageError(f"no image in the folder {str(folder)!r}; looked for {' '.join(IMAGE_EXTENSIONS)}")
    return _rooted(images, folder)


def _globbed(pattern: Path, output: Path | None) -> list[_Found]:
    """Files that match; when the pattern does not spell the extension out (`photos/*`), only images."""
    root = Path(*takewhile(lambda part: not is_pattern(part), pattern.parts))
    tail = pattern.parts[len(root.parts) :]
    any_file = pattern.suffix != "" and not is_pattern(pattern.suffix)
    images = [str(path) for path in walk(root, output, tail) if any_file or _is_image(path)]
    if not images:
        raise UsageError(f"no image matches {str(pattern)!r}")
    return _rooted(images, root)


def _listed(content: bytes, title: str, folder: Path) -> list[_Found]:
    text = content.decode("utf-8-sig", "surrogateescape")  # as the system decodes file names
    if "\0" in text:
        raise UsageError(f"{title} is not a list: expected UTF-8 text with one path or URL per line")
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise UsageError(f"{title} lists no image: expected one path or URL per line")
    for entry in entries:
        if has_scheme(entry):
            _check_address(entry, f"in {title}: ")
        else:
            _check_kind(entry, there=entry.isdecimal() and os.path.lexists(folder / entry), where=f"in {title}: ")
    urls = iter(_rooted([entry for entry in entries if is_url(entry)]))
    paths = iter(_rooted([str(folder / entry) for entry in entries if not is_url(entry)], folder))
    return [next(urls) if is_url(entry) else next(paths) for entry in entries]


def _rooted(locations: Sequence[str], folder: Path | None = None) -> list[_Found]:
    """Give locations one root: `folder` if all lie below it, else the deepest folder that holds them."""
    if not locations:
        return []
    paths = [_posix(location) for location in locations]
    root = PurePosixPath(os.path.commonpath([path.parent for path in paths]))
    if folder is not None and root.is_relative_to(_posix(str(folder))):
        root = _posix(str(folder))
    return [_Found(location, path, root) for location, path in zip(locations, paths, strict=True)]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_EXTENSIONS


def _identity(location: str) -> str:
    return location if is_url(location) else os.path.realpath(location)


def _posix(location: str) -> PurePosixPath:
    """Absolute path of a file, `..` folded; of a URL, /host/path without user, query and fragment."""
    if is_url(location):
        host, _, path = shown_url(location).partition("://")[2].partition("/")
        text = f"{host}/{unquote(path)}"
    else:
        text = Path(os.path.normpath(Path(location).absolute())).as_posix()
    return PurePosixPath("/" + "/".join(part for part in text.split("/") if part))


# Naming


def _named(images: Sequence[_Found]) -> tuple[ImageSource, ...]:
    names = {}
    for urls in (False, True):
        group = [image for image in images if is_url(image.location) == urls]
        base = os.path.commonpath([image.root for image in group]) if group else "/"
        names.update({image: safe(str(image.path.relative_to(base))) for image in group})
    unique = distinct([names[image] for image in images])
    return tuple(ImageSource(name, image.location) for name, image in zip(unique, images, strict=True))
