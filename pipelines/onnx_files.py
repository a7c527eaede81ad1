"""What an ONNX file refers to outside of itself, found without ONNX: weights may lie in other files, by their names.

The file is protobuf: fields, each a number, a kind of value and the value. Only those in which tensors can be are gone
into: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from pipelines.errors import EvsamError, WeightsError
from pipelines.files import reading

_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}
"""By kind of message, the fields that lead to the entries which say where a tensor's numbers are."""
_BYTES, _FIXED = 2, {1: 8, 5: 4}
"""Kinds of values: of a length that is said; of so many bytes. 0 is a number of 7 bits in each byte."""


def files_beside(path: Path) -> list[str]:
    """The names of the files that hold the rest of an ONNX file's weights; they lie in its folder.

    Raises WeightsError for a file that is damaged, that refers to one outside of its folder, to a link or to none.
    """
    try:
        with reading(path, "an ONNX file"), path.open("rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                names = sorted(set(_locations(content)))
    except EvsamError as error:
        raise WeightsError(str(error)) from error
    for name in names:
        if not contained(path.parent, name):
            raise WeightsError(
                f"{path} was refused: it keeps weights in {name!r}, which is no file of its own folder, or a link"
            )
    return names


def quiet_onnxruntime() -> None:
    """Keep ONNX Runtime from printing, in native code, what the names in a stranger's file are; faults are raised."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)


def contained(folder: Path, name: str) -> bool:
    """Whether `name` is that of a file in the folder or in one of its own, and neither it nor they are links."""
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(name).anchor or ".." in kind(name).parts:
            return False
    path = folder
    for part in PurePosixPath(name).parts:
        path /= part
        if path.is_symlink():
            return False
    return path.is_file()


def _locations(content: mmap.mmap) -> Iterator[str]:
    for start, end in _entries(content, "model", 0, len(content)):
        said = {"key": b"", "value": b""}
        for number, first, last in _fields(content, start, end):
            if number in _PARTS["entry"]:
                said[_PARTS["entry"][number]] = content[first:last]
        if said["key"] == b"location":
            yield said["value"].decode("utf-8")


def _entries(content: mmap.mmap, kind: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the entries of all tensors in a message start and end."""
    if kind == "entry":
        yield start, end
        return
    for number, first, last in _fields(content, start, end):
        if number in _PARTS[kind]:
            yield from _entries(content, _PARTS[kind][number], first, last)


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The numbers of a message's fields of bytes, and where their values start and end. Raises ValueError."""
    while at < end:
        tag, at = _number(content, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length, at = _number(content, at, end)
            if length > end - at:
                raise ValueError("a field ends behind its message")
            yield number, at, at + length
            at += length
        elif kind == 0:
            _, at = _number(content, at, end)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError("a field of a kind that there is not")
    if at > end:
        raise ValueError("a field ends behind its message")


def _number(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number of 7 bits in each byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        value |= (content[at] & 0x7F) << shift
        at += 1
        if content[at - 1] < 0x80:
            return value, at
    raise ValueError("a number without an end")
