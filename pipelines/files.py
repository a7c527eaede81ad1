"""Writing files so that a reader, or a run that is killed, never meets half of one; reading those of strangers."""

from __future__ import annotations

import errno
import json
import math
import os
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from pipelines.errors import DataError, SetupError

_LONGEST_PATH = 500
"""Characters of a path that a message shows."""


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever can be wrong with a file from outside into a DataError of one line that names it.

    what: what the file should be, as in "a results file". Keep the block small: it takes every error of values and
    types that is raised in it for one of the file's.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise DataError(f"{path} is not {what}: its values are nested too deep") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not {what}: it is not text in UTF-8") from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} is not {what}: {error}") from error
    except KeyError as error:
        raise DataError(f"{path} is not {what}: it has no {error}") from error
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        if "sys.set_int_max_str_digits" in str(error):  # Python reads no longer ones
            raise DataError(f"{path} is not {what}: it holds a number of thousands of digits") from error
        raise DataError(f"{path} is not {what}: it holds a value that cannot be used ({error})") from error


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file, with or without a byte order mark. Raises DataError, see `reading`."""
    with reading(path, what):
        return json.loads(path.read_text(encoding="utf-8-sig"))


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file, with or without a byte order mark. Raises DataError, see `reading`."""
    with reading(path, what):
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))


@contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path; when the block ends well, rename it to `path`, else delete it.

    scratch: folder for the temporary file, on the same file system as `path`; default: beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (scratch or path.parent) / f".{uuid.uuid4().hex}{path.suffix}"
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path, *, inner: Path | None = None) -> None:
    """Make it, and a folder in it, and find out early whether they can be written to.

    Raises SetupError, and then leaves no folder behind that was not there.
    """
    made: list[Path] = []
    try:
        with writing(folder):
            lowest = inner or folder
            missing = takewhile(lambda each: not each.exists(), [lowest, *lowest.parents])
            for each in reversed(list(missing)):
                each.mkdir(exist_ok=True)
                made.append(each)
            with NamedTemporaryFile(dir=lowest, prefix=f".{uuid.uuid4().hex}"):  # as long a name as `replacing` takes
                pass
    except SetupError:
        for each in reversed(made):
            with suppress(OSError):
                each.rmdir()
        raise


def check_folder(folder: Path) -> None:
    """Find out whether it could be made and written to, without making it. Raises SetupError."""
    with writing(folder):
        there = next(each for each in [folder, *folder.parents] if each.exists())
        with NamedTemporaryFile(dir=there, prefix=f".{uuid.uuid4().hex}"):
            pass


_WRITE_FAULTS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EFBIG: "a file has reached the size limit: raise it",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the folder is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENAMETOOLONG: "a path gets too long: choose an output folder that is less deep",
}


@contextmanager
def writing(folder: object, then: str = "") -> Iterator[None]:
    """Turn the faults of a disk into a SetupError. then: what its message says last."""
    try:
        yield
    except BrokenPipeError:  # of what is printed on the way, and not of a disk
        raise
    except OSError as error:
        reason = _WRITE_FAULTS.get(error.errno or 0, error.strerror or str(error))
        raise SetupError(f"cannot write to {_short(str(folder))}: {reason}{then}") from error


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """The same of a disk that is full or fails alone, for work that does more than to write to the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        with writing(folder):
            raise


def _short(path: str) -> str:
    return path if len(path) <= _LONGEST_PATH else f"{path[: _LONGEST_PATH // 2]}...{path[-_LONGEST_PATH // 2 :]}"


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step; a byte of a file name that is no text is written as `\\udce9`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by `content` as JSON that a person can read; numbers that are not finite become null."""
    write_text(path, to_json(nulls(content), indent=1) + "\n")


def to_json(content: Any, *, ascii_only: bool = False, **layout: Any) -> str:
    """JSON whose letters stay as they are, unless one is a byte of a file name that is no text; or in ASCII.

    Raises ValueError for a number that is not finite: no JSON has one.
    """
    text = json.dumps(content, ensure_ascii=ascii_only, allow_nan=False, **layout)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, allow_nan=False, **layout)
    return text


def nulls(content: Any) -> Any:
    """Figures with None for each number that is not finite: it has no value."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: nulls(value) for key, value in content.items()}
    return [nulls(value) for value in content] if isinstance(content, list | tuple) else content
